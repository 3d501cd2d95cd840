"""Tells where the `keystead` binary is that this package installed beside the interpreter's other scripts.

`keystead.Server` asks this module. The binary itself is on PATH in an active virtual environment, and
`python -m keystead_server` runs it in any other.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_keystead"]


def find_keystead() -> Path:
    """The path of the installed `keystead` binary, whichever of pip's schemes put it there.

    Raises:
        FileNotFoundError: none of the places where pip installs scripts has it; the text names them.

    Example:
        >>> subprocess.run([find_keystead(), "--version"])
    """
    name = "keystead" + (sysconfig.get_config_var("EXE") or "")
    tried = list(dict.fromkeys(directory / name for directory in _script_directories()))
    for path in tried:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    places = ", ".join(str(path) for path in tried)
    raise FileNotFoundError(f"the keystead binary of the package keystead-server is at none of: {places}")


def _script_directories() -> Iterator[Path]:
    """Where pip puts scripts: the one nearest to this very package first."""
    packages = Path(__file__).resolve().parents[1]
    # pip install --target: among the packages.
    yield packages / "bin"
    # pip install --prefix: the packages are in lib/pythonX.Y/site-packages below the prefix.
    if packages.name in ("site-packages", "dist-packages"):
        yield packages.parents[2] / "bin"
    yield Path(sysconfig.get_path("scripts"))
    yield Path(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")))
