"""``install.sh`` installs what the lock lists, whatever else an index offers, and says in one line what it lacks."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install import stand_ins
from tests.install.stand_ins import ROOT, locked

LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
# Packages of other platforms are not installed here, so there is no metadata to give their stand-ins.
HERE = [package for package in locked("requirements-dev.lock") if "win32" not in package.marker]
PYTHON = str(Path(sys.executable).resolve())


def install(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The project's install command, without HOME and pip's settings unless they are given."""
    chosen = {"PATH": os.environ["PATH"], "PYTHON": PYTHON, **variables}
    return subprocess.run(
        [ROOT / "install.sh", *arguments], env=chosen, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def oldest_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pip that comes with this Python; CI names the oldest one that is supported."""
    if "PIP" in os.environ:
        return Path(os.environ["PIP"])
    made = tmp_path_factory.mktemp("oldest")
    subprocess.run([PYTHON, "-m", "venv", made], check=True)
    return made / "bin" / "pip"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, with all that it asks for."""
    made = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made], cwd=ROOT, check=True)
    [wheel] = made.iterdir()
    return wheel


# /proc is a HOME that even root cannot write to.
@pytest.mark.parametrize(("which", "home"), [("oldest", {}), ("newest", {"HOME": "/proc"})])
def test_newer_releases_of_everything_change_nothing(
    which: str, home: dict[str, str], oldest_pip: Path, product: Path, tmp_path: Path
) -> None:
    pip = oldest_pip if which == "oldest" else Path(sys.executable).with_name("pip")
    offered = tmp_path / "index"
    offered.mkdir()
    lock = tmp_path / "stand-ins.lock"
    lock.write_text("".join(stand_ins.index(offered, HERE)), encoding="utf-8")
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(offered)}

    done = install(tmp_path / "venv", product, lock, PIP=str(pip), **index, **home)

    assert done.returncode == 0, done.stderr
    assert "No broken requirements" in done.stdout
    listed = [pip, "--disable-pip-version-check", "--python", tmp_path / "venv/bin/python", "list", "--format", "json"]
    answer = subprocess.run(listed, capture_output=True, check=True).stdout
    found = {canonicalize_name(package["name"]): package["version"] for package in json.loads(answer)}
    assert found.keys() - {package.name for package in HERE} <= {"vitalgate", "setuptools"}
    assert {package.name: found.get(package.name) for package in HERE} == {
        package.name: package.version for package in HERE
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_hashes_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    listed = [line for line in text.splitlines() if not line.startswith(" ")]
    assert len(listed) == len(locked(lock)) > 0
    assert len(re.findall(r"==.* \\\n    --hash=sha256:[0-9a-f]{64}", text)) == len(listed)
    assert "://" not in text
    assert "index-url" not in text
    assert set(locked(lock)) <= set(locked("requirements-dev.lock")), "the locks disagree"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_lock_is_complete_on_every_platform(platform: str) -> None:
    system = {"linux": ("posix", "Linux"), "darwin": ("posix", "Darwin"), "win32": ("nt", "Windows")}[platform]
    values = {**default_environment(), "sys_platform": platform, "os_name": system[0], "platform_system": system[1]}
    names = {package.name for package in locked("requirements-dev.lock")}
    asked = {package.name: [Requirement(line) for line in requires(package.name) or ()] for package in HERE}

    def needed(of: str, *extras: str) -> list[Requirement]:
        return [
            one for one in asked[of]
            if one.marker is None or any(one.marker.evaluate({**values, "extra": extra}) for extra in ("", *extras))
        ]  # fmt: skip

    for package in HERE:
        for one in needed(package.name):
            name = canonicalize_name(one.name)
            assert name in names, f"{package.name} needs {one}"
            for inner in needed(name, *one.extras) if name in asked else ():
                assert canonicalize_name(inner.name) in names, f"{one} needs {inner}"


def test_everything_installs_through_the_one_script() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / ".ci" / "run"]
    pages += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*Dockerfile*")]
    others = [
        f"{page.name}: {line}" for page in pages for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip3?\"? install|pip sync|--requirement", line) and "oldest-pip.lock" not in line
    ]  # fmt: skip
    assert others == []


def broken(folder: Path, **modules: str) -> str:
    """The path of an interpreter that starts with these modules in front of its own."""
    (folder / "modules").mkdir()
    for name, code in modules.items():
        (folder / "modules" / f"{name}.py").write_text(code, encoding="utf-8")
    made = folder / "python"
    made.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "modules"}" exec {PYTHON} "$@"\n', encoding="utf-8")
    made.chmod(0o755)
    return str(made)


def complaint(tmp_path: Path, **variables: str) -> str:
    """The one line that a failing install prints."""
    done = install(tmp_path / "venv", ROOT, ROOT / "requirements-build.lock", **variables)
    assert done.returncode == 1
    assert not (tmp_path / "venv").is_dir() or not any((tmp_path / "venv").iterdir())
    [line] = (done.stdout + done.stderr).splitlines()
    return line


class TestOneLine:
    def test_python_without_venv(self, tmp_path: Path) -> None:
        python = broken(tmp_path, ensurepip="raise ImportError")
        assert complaint(tmp_path, PYTHON=python) == (
            f"{python} has no venv: apt-get install python3.11-venv, or set PYTHON=/path/to/python3.11"
        )

    @pytest.mark.parametrize("version", [(3, 10), (3, 12)])
    def test_another_python(self, version: tuple[int, int], tmp_path: Path) -> None:
        code = f"import sys\nsys.version_info = {(*version, 0, 'final', 0)}"
        line = complaint(tmp_path, PYTHON=broken(tmp_path, sitecustomize=code))
        assert line.startswith("vitalgate needs Python 3.11 (found: ")

    def test_no_python(self, tmp_path: Path) -> None:
        line = complaint(tmp_path, PYTHON=str(tmp_path / "nothing"))
        assert line.startswith("vitalgate needs Python 3.11 (found: none)")

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "venv").write_text("a file", encoding="utf-8")
        done = install(tmp_path / "venv", ROOT, ROOT / "requirements-build.lock")
        assert done.returncode == 1
        assert done.stderr == f"cannot write to {tmp_path / 'venv'}: choose another directory (make: VENV=/path)\n"

    def test_a_lock_that_is_not_there(self, tmp_path: Path) -> None:
        done = install(tmp_path / "venv", ROOT, tmp_path / "no.lock")
        assert (done.returncode, done.stderr) == (1, f"cannot read the lock file {tmp_path / 'no.lock'}\n")
