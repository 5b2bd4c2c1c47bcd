"""The worklist of unknown codes: counted per device and code, kept, bounded; severe conflicts are told."""

from pathlib import Path
from typing import Any

import pytest

from ingest.journal import unknown_codes
from ingest.journal.unknown_codes import MOST_CODES, OTHERS
from tests.ingest.ingest_world import World
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind, EventKind
from vitals.model import Control, DeviceEvent

PERCENT = "262688^MDC_DIM_PERCENT^MDC"
RATE = "264864^MDC_DIM_BEAT_PER_MIN^MDC"
PAUSE = f"108^MNDRY_ECG_PAUSE_RATE^99MNDRY|1.7.2.108|{{}}|{RATE}"
CONFLICT = f"150456^MDC_ECG_HEART_RATE^MDC|1.3.1.1|{{}}|{PERCENT}"


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    yield made
    made.close()


def say(world: World, *rows: str, device: str = "d", kind: str = "NM", mode: str = "P", control: str = "1") -> None:
    lines = [f"MSH|^~\\&|MON|W|||20231114221320+0000||ORU^R01^ORU_R01|{control}|{mode}|2.6", "PID|||P1",
             "OBR|1|||182777000^monitoring of patient^SCT|||20231114221320+0000"]  # fmt: skip
    lines += [f"OBX|{number}|{kind}|{row}|||||R" for number, row in enumerate(rows, 1)]
    world.send(world.message(device, "\r".join([*lines, ""]).encode(), "hl7v2", "oru_r01"))
    world.drain()


def listed(world: World, **query: Any) -> list[tuple[str, str, str, int, tuple[float, ...]]]:
    found = world.service.unknown_codes(**query)
    return [(one.device, one.kind.value, one.code, one.count, one.samples) for one in found]


def test_values_under_unknown_codes_are_counted_per_device_and_keep_their_newest_numbers(world: World) -> None:
    world.worn("d", "hl7v2")
    world.worn("e", "hl7v2")
    first_ns = world.clock.now_ns()
    for number in range(7):
        say(world, PAUSE.format(number), control=str(number))
        world.clock.advance(1)
    say(world, PAUSE.format(9), device="e")
    code = "99MNDRY:108 in mdc:264864"
    assert listed(world, device="d") == [("d", "unknown_code", code, 7, (2.0, 3.0, 4.0, 5.0, 6.0))]
    assert listed(world) == [*listed(world, device="d"), ("e", "unknown_code", code, 1, (9.0,))]
    (one,) = world.service.unknown_codes(device="d")
    assert (one.adapter, one.first_ns, one.last_ns) == ("hl7v2", first_ns, first_ns + 6 * 10**9)
    # Nothing of it is told again and again in the log, and nothing is in quarantine.
    assert not world.events()
    assert not world.service.quarantine()
    world.restart()
    assert len(listed(world)) == 2


def test_text_is_never_a_sample(world: World) -> None:
    world.worn("d", "hl7v2")
    say(world, "108^x^99MNDRY||Jane Doe|", "JANE DOE^x^99X||Jane Doe|", kind="ST")
    found = listed(world)
    assert [samples for *_, samples in found] == [(), ()]
    assert not [text for *_, text, _, _ in found if "ANE" in text]
    assert found[1][2].startswith("99X:#")


def test_codes_beyond_the_most_are_counted_together(world: World) -> None:
    events = [DeviceEvent("d", EventKind.UNKNOWN_CODE, number, f"L:{number}", 1.0) for number in range(MOST_CODES + 3)]
    with world.log.transaction() as tx:
        unknown_codes.note(tx.connection, "hl7v2", events)
    found = listed(world, limit=1000)
    assert len(found) == MOST_CODES + 1
    assert found[-1] == ("d", "unknown_code", OTHERS, 3, (1.0, 1.0, 1.0))
    page = world.service.unknown_codes(limit=2)
    following = world.service.unknown_codes(after=page[-1].id, limit=1)
    assert [one.code for one in (*page, *following)] == ["L:0", "L:1", "L:2"]
    with pytest.raises(InvalidRequest):
        world.service.unknown_codes(after="x")


def told(world: World) -> list[Control]:
    entries = world.entries()
    return [one for one in entries if isinstance(one, Control) and one.kind is ControlKind.UNCLAIMED]


def test_a_conflict_is_listed_and_a_severe_number_is_told(world: World) -> None:
    world.worn("d", "hl7v2")
    say(world, CONFLICT.format(97))
    assert not told(world)
    say(world, CONFLICT.format(70), mode="T", control="2")
    assert not told(world)
    say(world, CONFLICT.format(70), control="3")
    (control,) = told(world)
    assert control.body == {
        "device": "d", "vital": "spo2", "value": 70.0, "flags": 0, "received_ns": world.clock.now_ns(),
        "reason": "code_conflict", "items": [],
    }  # fmt: skip
    assert not world.rows()
    label = "mdc:150456 MDC_ECG_HEART_RATE"
    assert listed(world) == [("d", "code_conflict", label, 3, (97.0, 70.0, 70.0))]
    assert [event.kind for event in world.events()] == [EventKind.CODE_CONFLICT] * 3
