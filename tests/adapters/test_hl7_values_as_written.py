"""OBX-5, OBX-2 and OBX-11 as monitors and laboratories write them: read where they mean one thing, else in the worklist
with the number that they may mean."""

from typing import Any

import pytest

from tests.adapters.decoding import decode, reading_rows
from tests.adapters.test_hl7_v2 import encoded, one, row
from vitals.catalog import BY_KEY
from vitals.glossary import EventKind

READ = [
    ({"f5": "70,0"}, 70.0, []),
    ({"f5": "70,05"}, 70.05, []),
    ({"f5": "70 %"}, 70.0, []),
    ({"f5": "70%"}, 70.0, []),
    ({"f5": "70,0 %", "f6": ""}, 70.0, []),
    ({"f2": "ST", "f5": "70 percent", "f6": ""}, 70.0, []),
    ({"f2": "TX", "f5": "70"}, 70.0, []),
    ({"f2": "", "f5": "70"}, 70.0, []),
    ({"f2": "", "f5": "70 %"}, 70.0, []),
    ({"f2": "", "f5": "<^70"}, 70.0, ["below_range"]),
    ({"f2": "SN", "f5": "<^70"}, 70.0, ["below_range"]),
    ({"f2": "SN", "f5": "^70"}, 70.0, []),
    ({"f2": "SN", "f5": "=^70,0"}, 70.0, []),
    ({"f5": "<70"}, 70.0, ["below_range"]),
    ({"f5": "< 70 %"}, 70.0, ["below_range"]),
    ({"f5": ">=99"}, 99.0, ["above_range"]),
    ({"f5": "70", "f11": "f"}, 70.0, []),
    ({"f5": "70", "f11": "p"}, 70.0, ["estimated"]),
    ({"f5": "70", "f11": " F "}, 70.0, []),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "value", "flags"), READ, ids=str)
def test_a_value_that_can_mean_one_thing_is_read(changes: dict[str, str], value: float, flags: list[str]) -> None:
    decoded = one(**changes)
    assert not decoded.rejects
    (shown,) = reading_rows(decoded.batch)
    assert (shown["vital"], shown["value"], shown["unit"], shown["flags"]) == ("spo2", value, "%", flags)


def test_a_unit_behind_the_number_is_that_of_the_value() -> None:
    for text, unit in (("2,2 mmol/l", "mmol/L"), ("40 mg/dl", "mg/dL"), ("2.2mmol", "mmol/L"), ("40 mg%", "mg/dL")):
        (shown,) = reading_rows(one(f3="160184^^MDC", f5=text, f6="").batch)
        assert shown["unit"] == unit


UNREAD: list[tuple[dict[str, Any], str, float | None]] = [
    ({"f5": "70~97"}, "spo2: bad_value", 70.0),
    ({"f5": "97~70"}, "spo2: bad_value", 70.0),
    ({"f5": "70", "f6": ""}, "spo2: missing_field", 70.0),
    ({"f5": "70", "f6": "furlong"}, "spo2: unknown_unit", 70.0),
    ({"f5": "0.7", "f6": ""}, "spo2: missing_field", 70.0),
    ({"f5": "70", "f11": "Q"}, "spo2: bad_value", 70.0),
    ({"f5": "70", "f14": "yesterday"}, "spo2: bad_time", 70.0),
    ({"f2": "XYZ", "f5": "70"}, "spo2: bad_type", 70.0),
    ({"f5": "seventy"}, "spo2: bad_value", None),
    ({"f5": "70 mmHg"}, "spo2: bad_value", 70.0),
    ({"f3": "150364^^MDC", "f5": "98.6", "f6": ""}, "temp: missing_field", 37.0),
    ({"f3": "150364^^MDC", "f5": "104", "f6": ""}, "temp: missing_field", 40.0),
    ({"f3": "160184^^MDC", "f5": "2.2", "f6": ""}, "glucose_bg: missing_field", 39.64),
    ({"f3": "150021^^MDC", "f5": "210/120"}, "bp_sys: bad_value", 210.0),
]


@pytest.mark.parametrize(("changes", "detail", "value"), UNREAD, ids=str)
def test_a_value_that_cannot_be_read_is_told_with_the_number_that_matters_most(
    changes: dict[str, Any], detail: str, value: float | None
) -> None:
    changes = changes if changes.get("f3") != "150021^^MDC" else changes | {"f6": "mmHg"}
    decoded = one(**changes)
    assert (len(decoded.batch), len(decoded.rejects)) == (0, 1)
    (event,) = decoded.events
    assert (event.kind, event.detail) == (EventKind.UNREADABLE, detail)
    assert event.value == (None if value is None else pytest.approx(value, abs=0.01))
    assert event.vital == BY_KEY[detail.partition(":")[0]].code


def test_what_says_nothing_of_a_person_or_was_withdrawn_is_told_without_one() -> None:
    (event,) = one(f5="70~71", f8="DEMO").events
    assert event.vital == 0
    assert one(f5="70~71", f11="X").events[0].kind is EventKind.VALUE_ABSENT
    (good, bad) = (row(f4="1.1.1.2"), row(f5="70 furlong"))
    assert len(decode("hl7v2", encoded([good, bad])).batch) == 1
