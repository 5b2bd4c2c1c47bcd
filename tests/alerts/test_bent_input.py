"""Bent input ends where somebody sees it: a severe live value as a page or a review of S1, any other in a list."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulators.formats import FORMATS, Format, Sample
from tests.alerts.bending import (
    CALM,
    SEVERE,
    SPEAKING,
    Bent,
    members_of,
    name_of,
    rewritten,
    with_wrong_type,
)
from tests.support import SECOND
from vitals.visibility import ShownIn


def year(number: int) -> int:
    return int(datetime(number, 1, 1, 0, 7, tzinfo=UTC).timestamp()) * SECOND


CLOCKS = {
    "right": 0, "+6 min": 360 * SECOND, "+1 h": 3600 * SECOND, "+1 d": 86_400 * SECOND, "1970": year(1970),
    "2000": year(2000), "2161": year(2161),
}  # fmt: skip
"""How a device's clock is bent: a shift below 2 days, else the time that it shows."""


@pytest.fixture
def bent(tmp_path: Path) -> Iterator[Bent]:
    made = Bent(tmp_path)
    yield made
    made.close()


def shown_time(bent: Bent, clock: str) -> int:
    now_ns = bent.world.clock.now_ns() // (60 * SECOND) * 60 * SECOND
    return now_ns + CLOCKS[clock] if not clock.isdecimal() else CLOCKS[clock]


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_severe_value_of_a_bent_clock_is_told_within_a_minute(bent: Bent, clock: str) -> None:
    for of in SPEAKING:
        bent.send(of, bent.payload(of, SEVERE, shown_time(bent, clock)))
    quiet = silent(bent)
    # An Observation of another year is a record of that year, whoever wrote it: it stands in the history.
    records = [name_of(of) for of in SPEAKING if of.adapter == "fhir" and clock in {"1970", "2000"}]
    # A file is not live: with a time that is not possible a severe value of it is looked at.
    files = [of for of in SPEAKING if clock != "right" and of.kind in bent.world.adapters[of.adapter].stored_kinds]
    assert set(quiet) == {*records, *map(name_of, files)}
    assert all(bent.reviewed(of) for of in files)
    history = sum(found[ShownIn.HISTORY] for found in bent.visible().values())
    assert history >= len(records)


def silent(bent: Bent) -> list[str]:
    """Formats whose severe value nobody is told of within a minute."""
    bent.fold()
    bent.minute()
    assert all(sum(found.values()) for found in bent.visible().values()), "a message is in no list"
    return [name_of(of) for of in bent.formats if not bent.told(of)]


def test_another_value_of_the_same_time_is_told(bent: Bent) -> None:
    now_ns = shown_time(bent, "right")
    for of in SPEAKING:
        bent.send(of, bent.payload(of, CALM, now_ns))
    bent.fold()
    assert not [name_of(of) for of in SPEAKING if bent.told(of)]
    bent.world.clock.advance(5)
    for of in SPEAKING:
        bent.send(of, bent.payload(of, SEVERE, now_ns))
    assert silent(bent) == []


def test_a_severe_value_before_another_of_the_same_time_is_told(bent: Bent) -> None:
    now_ns = shown_time(bent, "right")
    for values in (SEVERE, CALM):
        for of in SPEAKING:
            bent.send(of, bent.payload(of, values, now_ns))
    assert silent(bent) == []


def is_text(payload: bytes) -> bool:
    return payload[:1] in {b"{", b"[", b"<"} or payload.startswith((b"MSH", b"Index"))


def texts_of(bent: Bent) -> list[tuple[Format, bytes]]:
    """The text payloads of a severe value of now."""
    now_ns = shown_time(bent, "right")
    payloads = [(of, bent.payload(of, SEVERE, now_ns)) for of in bent.formats]
    texts = [(of, payload) for of, payload in payloads if is_text(payload)]
    assert len({of.adapter for of, _ in texts}) > 10
    return texts


MARKS = {"byte order mark": (b"\xef\xbb\xbf", b""), "NUL": (b"", b"\0"), "both": (b"\xef\xbb\xbf", b"\0\0")}


@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
def test_marks_around_a_text_change_nothing(bent: Bent, marks: tuple[bytes, bytes]) -> None:
    texts = texts_of(bent)
    for of, payload in texts:
        bent.send(of, marks[0] + payload + marks[1])
    assert not set(silent(bent)) & {name_of(of) for of, _ in texts}
    assert not any(found[ShownIn.QUARANTINE] for found in bent.visible().values())


def test_a_text_of_another_encoding_is_in_quarantine_with_its_bytes(bent: Bent) -> None:
    """But for exports of a spreadsheet, which are read in it."""
    texts = [(of, payload) for of, payload in texts_of(bent) if of.adapter != "clarity"]
    for of, payload in texts:
        bent.send(of, payload.decode().encode("utf-16"))
    quiet = set(silent(bent))
    assert {name_of(of) for of, _ in texts} <= quiet
    assert [found[ShownIn.QUARANTINE] for found in bent.visible().values()] == [1] * len(texts)


REST = [one for one in FORMATS if one not in SPEAKING]
"""Formats of scales, batteries, steps, sleep and the like: none of their values is severe."""


@pytest.mark.parametrize("clock", CLOCKS)
def test_values_of_other_formats_are_judged_or_in_a_list(tmp_path: Path, clock: str) -> None:
    assert {of.adapter for of in REST} >= {"ble_scale", "ble_battery"}
    bent = Bent(tmp_path, REST)
    for of in REST:
        bent.send(of, bent.payload(of, CALM, shown_time(bent, clock)))
    assert silent(bent) == [name_of(of) for of in REST], "no value is severe"
    assert [sum(found.values()) > 0 for found in bent.visible().values()] == [True] * len(REST)
    bent.close()


DECIDES = {
    "json": {"vital", "value", "unit", "time"},
    "envelope": {"uuid", "value"},
    "omh": {"namespace", "name", "version", "value", "unit", "date_time", "blood_specimen_type", "specimen_source"},
    "fhir": {"resourceType", "type", "status", "effectiveDateTime", "system", "code", "value"},
    "ihealth": {"MDate", "TimeZone", "HP", "LP", "BG", "BO", "BPUnit", "BGUnit"},
    "withings": {"status", "grpid", "attrib", "date", "category", "value", "type", "unit"},
    "nightscout": {"type", "sgv", "mbg", "date"},
    "dexcom": {"recordType", "recordVersion", "systemTime", "value", "unit"},
    "fitbit": {"dateTime", "time", "value", "minute"},
    "health_auto_export": {"name", "units", "date", "Avg", "qty", "systolic", "diastolic"},
}
"""Members that say what, how much, when or whose a value is: without them there is none. Everything else stands beside
it."""


def member_names(of: Format) -> list[str]:
    now_ns = 1_700_000_000 * SECOND
    known = {key: SEVERE.get(key, CALM.get(key, 20.0)) for key in of.vitals}
    return members_of(of.encode(Sample(known, now_ns, 1, now_ns), random.Random(7)))


def test_a_member_of_a_wrong_type_costs_no_value_beside_it(tmp_path: Path) -> None:
    """Each member of each JSON format in turn: one that stands beside a value leaves it told, one that decides is
    told as well, or its message is in quarantine, or its value of another time is reviewed."""
    bent, deciding = list[Format](), set[str]()
    for of in SPEAKING:
        for member in member_names(of):
            changed = with_wrong_type(of, member)
            bent.append(changed)
            known = DECIDES["envelope" if of.kind == "envelope" else of.adapter]
            if member.rpartition(".")[2] in known:
                deciding.add(name_of(changed))
    assert len({of.adapter for of in bent}) > 12
    world = Bent(tmp_path, bent)
    now_ns = shown_time(world, "right")
    for of in bent:
        world.send(of, world.payload(of, SEVERE, now_ns))
    quiet = silent(world)
    assert set(quiet) <= deciding
    shown = dict(zip(map(name_of, bent), world.visible().values(), strict=True))
    reviewed = {name_of(of) for of in bent if world.reviewed(of)}
    assert [name for name in quiet if not shown[name][ShownIn.QUARANTINE] and name not in reviewed] == []
    world.close()


def test_a_member_of_a_wrong_type_leaves_values_of_other_formats_in_a_list(tmp_path: Path) -> None:
    bent = [with_wrong_type(of, member) for of in REST for member in member_names(of)]
    world = Bent(tmp_path, bent)
    for of in bent:
        world.send(of, world.payload(of, CALM, shown_time(world, "right")))
    silent(world)
    assert [
        name_of(of) for of, found in zip(bent, world.visible().values(), strict=True) if not sum(found.values())
    ] == []
    world.close()


SPELLINGS = {
    "/min": ["bpm", "BPM", "beats/min", "{beats}/min", "count/min"],
    "%": ["pct", "percent"],
    "mm[Hg]": ["mmHg", "mm Hg", "MMHG"],
    "mmHg": ["mm[Hg]", "mm Hg"],
    "Cel": ["degC", "°C", "C"],
    "degC": ["Cel", "°C", "ºC"],
    "F": ["degF", "°F", "[degF]"],
    "mg/dL": ["mg/dl", "MG/DL"],
    "mmol/L": ["mmol/l", "MMOL/L"],
    "count/min": ["/min", "bpm"],
    "beats/min": ["bpm", "/min"],
    "breaths/min": ["rpm", "br/min", "/min"],
    "kPa": ["KPA", "kpa"],
}
"""How a format writes a unit, and how people and programs write it too."""


def respelled(of: Format) -> Iterator[Format]:
    """The format with each of its units in each other spelling."""
    now_ns = 1_700_000_000 * SECOND
    known = {key: SEVERE.get(key, CALM.get(key, 20.0)) for key in of.vitals}
    payload = of.encode(Sample(known, now_ns, 1, now_ns), random.Random(7))
    for written, others in SPELLINGS.items():
        for quoted in (f'"{written}"', f"|{written}|", f"^{written}^UCUM"):
            for other in others if quoted.encode() in payload else ():
                old, new = quoted.encode(), quoted.replace(written, other).encode()
                yield rewritten(of, f"{written} as {other}", lambda found, old=old, new=new: found.replace(old, new))


def test_a_unit_in_another_spelling_changes_nothing(tmp_path: Path) -> None:
    bent = [changed for of in SPEAKING for changed in respelled(of)]
    assert {of.adapter for of in bent} >= {"json", "omh", "fhir", "health_auto_export", "apple_health", "dexcom"}
    world = Bent(tmp_path, bent)
    now_ns = shown_time(world, "right")
    for of in bent:
        world.send(of, world.payload(of, SEVERE, now_ns))
    assert silent(world) == []
    world.close()


IMPOSSIBLE = {
    "heart_rate": 400, "pulse_rate": 320, "pulse_rate_nibp": 320, "resp_rate": 95, "bp_sys": 330, "bp_dia": 220,
    "temp": 52, "glucose_bg": 1700, "glucose_isf": 750, "glucose": 1700,
}  # fmt: skip
"""High, and of no other common unit."""
CAPPED = {"clarity", "dexcom"}
"""Formats that write words above their sensor's range, whatever the number is."""


def test_an_impossible_value_is_in_the_worklist_and_a_fault_of_its_device(tmp_path: Path) -> None:
    speaking = [of for of in SPEAKING if of.vitals & IMPOSSIBLE.keys() and of.adapter not in CAPPED]
    assert {of.adapter for of in speaking} == {of.adapter for of in SPEAKING} - CAPPED
    bent = Bent(tmp_path, speaking)
    now_ns = shown_time(bent, "right")
    for of in speaking:
        bent.send(of, bent.payload(of, IMPOSSIBLE, now_ns))
    bent.fold()
    service = bent.world.service
    for of, found in zip(speaking, bent.visible().values(), strict=True):
        device, name = bent.devices[name_of(of)], name_of(of)
        words = {one.detail for one in service.device_state(device).faults}
        assert words & {"implausible", "unit_suspect"}, name
        listed = sum(one.count for one in service.unknown_codes(device=device))
        assert listed >= max(1, found[ShownIn.DOUBTFUL]), name
    bent.close()
