"""Golden cases: ``cases/<adapter>/<case>/{input.*, case.json, expected.json}``, run by one loop.

``case.json`` holds the kind, the device's configuration, receipt time and ordinal, and what the case is about.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.adapter import Context
from ingest.adapters import BUILT_IN, built_in
from tests.adapters.decoding import ADAPTERS, assert_sound, shown
from vitals.model import Message

CASES = Path(__file__).parent / "cases"
FOUND = sorted(path.parent for path in CASES.glob("*/*/case.json"))


def load(case: Path) -> tuple[Message, Context, dict[str, Any]]:
    about = json.loads((case / "case.json").read_text())
    (payload,) = case.glob("input.*")
    device = about["device"]
    message = Message(
        "d_1", case.parent.name, about["kind"], about["received_ns"], payload.read_bytes(), ordinal=about["ordinal"]
    )
    return message, Context(device["zone"], device["settings"]), json.loads((case / "expected.json").read_text())


@pytest.mark.parametrize("case", FOUND, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_golden_case(case: Path) -> None:
    message, context, expected = load(case)
    decoded = ADAPTERS[message.adapter].decode([message], [context])
    assert_sound(decoded, [message])
    assert shown(decoded) == expected


def test_every_adapter_has_golden_cases_and_every_folder_an_adapter() -> None:
    assert {path.parent.name for path in FOUND} == {*BUILT_IN}
    assert {path.name for path in CASES.iterdir()} == {*BUILT_IN}


def test_golden_cases_cover_every_kind_and_every_device_vital() -> None:
    for adapter in map(built_in, BUILT_IN):
        cases = [load(case) for case in FOUND if case.parent.name == adapter.name]
        assert {message.kind for message, _, _ in cases} >= adapter.kinds.keys() - {""}, adapter.name
        seen = {reading["vital"] for _, _, expected in cases for reading in expected["readings"]}
        assert seen <= adapter.vitals, adapter.name
        if adapter.name != "json":
            assert seen == adapter.vitals, adapter.name


def test_all_cases_of_an_adapter_decode_alike_in_one_batch() -> None:
    for adapter in map(built_in, BUILT_IN):
        cases = [load(case) for case in FOUND if case.parent.name == adapter.name]
        together = adapter.decode([message for message, _, _ in cases], [context for _, context, _ in cases])
        for number, (_, _, expected) in enumerate(cases):
            rows = [row for row in range(len(together.batch)) if together.batch.message[row] == number]
            assert len(rows) == len(expected["readings"])
            rejects = [reject.reason.value for reject in together.rejects if reject.message == number]
            assert rejects == [reject["reason"] for reject in expected["rejects"]]
