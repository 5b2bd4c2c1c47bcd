"""A package for a new adapter: it works as created, and is there to be changed."""

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vitals.errors import InvalidRequest

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)

_PYPROJECT: Final = """[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "vitalgate-NAME"
version = "0.1.0"
description = "vitalgate adapter NAME"
requires-python = ">=3.11"
dependencies = ["vitalgate"]

[project.entry-points."vitalgate.adapters"]
NAME = "vitalgate_NAME:ADAPTER"

[tool.hatch.build.targets.wheel]
only-include = ["vitalgate_NAME.py"]

[tool.pytest.ini_options]
testpaths = ["."]
pythonpath = ["."]
"""

_MODULE: Final = '''"""NAME: body temperature as one JSON object.

Layout: ``{"temp_c": number, "time": RFC 3339}``; a time without an offset is wall time.

Identity: the time as sent, ``seq`` 0.
"""

from collections.abc import Sequence

import msgspec

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject, SourceClock, unit_code, vital_code
from ingest.adapters.reading.timestamps import parse_rfc3339
from vitals.glossary import Reason
from vitals.model import Message

TEMP = vital_code("temp")
CELSIUS = unit_code("Cel")


class _Payload(msgspec.Struct):
    temp_c: float
    time: str


_DECODER = msgspec.json.Decoder(_Payload)


def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
    """One temperature a message. Never raises, and no reject quotes the payload: it may name a person."""
    readings = ReadingsBuilder()
    rejects = []
    for index, message in enumerate(messages):
        try:
            payload = _DECODER.decode(message.payload)
        except msgspec.ValidationError:
            rejects.append(Reject(index, Reason.BAD_TYPE, "$"))
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rejects.append(Reject(index, Reason.MALFORMED if message.payload else Reason.EMPTY, ""))
            continue
        try:
            time_ns, offset = parse_rfc3339(payload.time)
        except ValueError:
            rejects.append(Reject(index, Reason.BAD_TIME, "$.time"))
            continue
        clock = SourceClock.WALL if offset is None else SourceClock.INSTANT
        readings.add(index, TEMP, payload.temp_c, CELSIUS, time_ns, clock=clock, tz_min=offset or 0)
    return Decoded(readings.build(), rejects=rejects)


ADAPTER = Adapter(
    name="NAME",
    version=1,
    title="NAME",
    kinds={"": "one JSON object with temp_c and time"},
    vitals=frozenset({"temp"}),
    decode=decode,
    max_payload=4096,
)
'''

_TEST: Final = '''"""Golden cases: ``cases/CASE/{case.json, input.*, expected.json}``.

``expected.json`` is what ``vitalgate adapter try --json`` prints for the input. Read it before you keep it.
"""

import json
from pathlib import Path

import pytest

from dashboard_api.times import parse_time
from deploy.jobs.trial import try_payload
from vitalgate_NAME import ADAPTER

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases").glob("*/case.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_case(case: Path) -> None:
    about = json.loads((case / "case.json").read_text())
    (payload,) = case.glob("input.*")
    found = try_payload(
        ADAPTER,
        payload.read_bytes(),
        about["kind"],
        received_ns=parse_time(about["received"], "received"),
        zone=about["zone"],
        settings=about["settings"],
    )
    assert found == json.loads((case / "expected.json").read_text())


def test_every_vital_and_kind_has_a_case() -> None:
    expected = [json.loads((case / "expected.json").read_text()) for case in CASES]
    assert {reading["vital"] for one in expected for reading in one["readings"]} == ADAPTER.vitals
    assert {one["kind"] for one in expected} >= set(ADAPTER.kinds)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\\xff", b"{}", b"9" * 1000, b"[" * 100_000])
def test_bad_payloads_are_rejected(payload: bytes) -> None:
    found = try_payload(ADAPTER, payload, next(iter(ADAPTER.kinds)), received_ns=0)
    assert [reject["reason"] != "adapter_error" for reject in found["rejects"]] == [True]
    assert not found["readings"]
'''

_CASE: Final = """{
 "about": "one temperature, offset +01:00",
 "kind": "",
 "received": "2026-01-05T08:30:05Z",
 "zone": null,
 "settings": {}
}
"""

_INPUT: Final = """{"temp_c": 37.2, "time": "2026-01-05T09:30:00+01:00"}
"""

_EXPECTED: Final = """{
 "adapter": "NAME",
 "version": 1,
 "kind": "",
 "readings": [
  {
   "device": "trial",
   "vital": "temp",
   "time": "2026-01-05T08:30:00Z",
   "end": null,
   "basis": "device",
   "value": 37.2,
   "unit": "Cel",
   "reported": {"value": 37.2, "unit": "Cel"},
   "statistic": "single",
   "flags": [],
   "seq": 0,
   "received": "2026-01-05T08:30:05Z",
   "context": {}
  }
 ],
 "events": [],
 "rejects": [],
 "unknown_codes": [],
 "unknown_members": 0,
 "left_out": 0,
 "duplicates": 0
}
"""

_FILES: Final[Mapping[str, str]] = MappingProxyType({
    "pyproject.toml": _PYPROJECT,
    "vitalgate_NAME.py": _MODULE,
    "test_NAME.py": _TEST,
    "cases/first/case.json": _CASE,
    "cases/first/input.json": _INPUT,
    "cases/first/expected.json": _EXPECTED,
})  # fmt: skip


def create(name: str, where: Path) -> list[str]:
    """Write the package into the new folder ``where / name``; the names of its files.

    Raises:
        InvalidRequest: the name is not fit for a topic and a module, or the folder cannot be made.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InvalidRequest("NAME", "a-z, then a-z, 0-9 and _, at most 32 in all, and no word of Python's own")
    folder = where / name
    try:
        folder.mkdir()
    except OSError as error:
        raise InvalidRequest("NAME", f"{folder}: {error.strerror}") from error
    names = {file.replace("NAME", name): text.replace("NAME", name) for file, text in _FILES.items()}
    for file, text in names.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(names)
