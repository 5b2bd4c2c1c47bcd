"""A folder of stand-ins: every locked package with its real metadata and no code, and a newer release of each."""

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NEWER = "9999.0"
_LINE = re.compile(r"^([a-z0-9-]+)==(\S+?)((?: ; .+?)?) \\$", re.MULTILINE)


class Locked(NamedTuple):
    """A package of a lock file; ``marker`` is empty or starts with ``" ; "``."""

    name: str
    version: str
    marker: str


def locked(lock: str) -> list[Locked]:
    """The packages of one of the project's lock files."""
    return [Locked(*found) for found in _LINE.findall((ROOT / lock).read_text(encoding="utf-8"))]


def metadata(name: str) -> str:
    """The METADATA of an installed package."""
    text = distribution(name).read_text("METADATA")
    assert text is not None, f"{name} has no metadata"
    return text


def wheel(folder: Path, name: str, version: str, described: str) -> Path:
    """A wheel of metadata only; ``described`` is METADATA whose version is replaced."""
    stem = f"{name.replace('-', '_')}-{version}"
    described = re.sub(r"^Version: .*$", f"Version: {version}", described, count=1, flags=re.MULTILINE)
    files = {
        f"{stem}.dist-info/METADATA": described,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_digest(content)},{len(content.encode())}\n" for path, content in files.items())
    made = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in {**files, f"{stem}.dist-info/RECORD": f"{record}{stem}.dist-info/RECORD,,\n"}.items():
            archive.writestr(path, content)
    return made


def index(folder: Path, packages: Iterable[Locked]) -> Iterator[str]:
    """Fills ``folder`` with both releases of every package; yields the lines of a lock of the older ones."""
    for package in packages:
        described = metadata(package.name)
        wheel(folder, package.name, NEWER, described)
        made = wheel(folder, package.name, package.version, described)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        yield f"{package.name}=={package.version}{package.marker} \\\n    --hash=sha256:{digest}\n"


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
