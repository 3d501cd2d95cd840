"""`python -m keystead_server ...` is `keystead ...`, also where the directory of scripts is not on PATH."""

import os
import sys

from keystead_server import find_keystead

binary = find_keystead()
os.execv(binary, [str(binary), *sys.argv[1:]])
