"""`find_keystead` wherever pip puts a package: each case installs a wheel like the real one, with a script for a binary."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import keystead_server

MODULE = Path(keystead_server.__file__).parent
# The interpreter that this virtual environment was made of.
BASE = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheels") / "keystead_server-0.0.1-py3-none-any.whl"
    about = "keystead_server-0.0.1.dist-info"
    files = {
        **{f"keystead_server/{source.name}": source.read_text() for source in MODULE.glob("*.py")},
        "keystead_server-0.0.1.data/scripts/keystead": "#!/bin/sh\necho called with $*\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: keystead-server\nVersion: 0.0.1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
    return path


def install(python: Path, wheel: Path, *options: str, **variables: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    options = ("--no-warn-script-location", "--disable-pip-version-check", *options)
    subprocess.run([*pip, *options, str(wheel)], check=True, env=bare(**variables))


def bare(**variables: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PATH")}
    return kept | {"PATH": "/usr/bin:/bin"} | variables


def run(python: Path, *words: str, **variables: str) -> str:
    command = [str(python), "-m", "keystead_server", *words]
    return subprocess.run(command, check=True, env=bare(**variables), capture_output=True, text=True).stdout


def test_in_a_virtual_environment_that_is_not_active(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install(python, wheel)
    assert run(python, "serve", "--name=m1") == "called with serve --name=m1\n"


def test_in_a_virtual_environment_on_top_of_another(wheel: Path, tmp_path: Path) -> None:
    """The scripts of the one below are asked for by the module that is there, too."""
    venv.create(tmp_path / "below")
    install(tmp_path / "below/bin/python", wheel)
    venv.create(tmp_path / "above")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    below = tmp_path / f"below/lib/{version}/site-packages"
    assert run(tmp_path / "above/bin/python", "--version", PYTHONPATH=str(below)) == "called with --version\n"


def test_for_one_user(wheel: Path, tmp_path: Path) -> None:
    home = {"PYTHONUSERBASE": str(tmp_path / "home")}
    install(BASE, wheel, "--user", "--break-system-packages", **home)
    assert run(BASE, "--version", **home) == "called with --version\n"


def test_in_a_directory_that_was_named(wheel: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    install(BASE, wheel, f"--target={there}")
    assert run(BASE, "--version", PYTHONPATH=str(there)) == "called with --version\n"


def test_below_a_prefix_that_was_named(wheel: Path, tmp_path: Path) -> None:
    install(BASE, wheel, f"--prefix={tmp_path}", "--break-system-packages")
    packages = next(tmp_path.glob("**/keystead_server")).parent
    assert run(BASE, "--version", PYTHONPATH=str(packages)) == "called with --version\n"


def test_what_is_nowhere_is_an_error_that_names_the_places(tmp_path: Path) -> None:
    (tmp_path / "keystead_server").mkdir()
    for source in MODULE.glob("*.py"):
        (tmp_path / "keystead_server" / source.name).write_text(source.read_text())
    found = subprocess.run(
        [str(BASE), "-m", "keystead_server"],
        env=bare(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "the keystead binary of the package keystead-server is at none of" in found.stderr
    assert str(tmp_path / "bin/keystead") in found.stderr
