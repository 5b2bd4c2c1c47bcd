"""Which list shows what."""

import pytest

from vitals.glossary import Basis, ControlKind, EventKind, Flag, Reason, Statistic
from vitals.model import Control, DeviceEvent, batch_from_rows
from vitals.records import Ledger, MessageLedger, QuarantineItem, ReadingLedger
from vitals.visibility import Shown, ShownIn, shown_in

ROW = {"device": "d", "patient": "p", "vital": 4, "value": 97.0}
HELD = QuarantineItem("1", "d", "json", 1, "", Reason.MALFORMED, "", 0, 1)


@pytest.mark.parametrize(
    ("item", "where"),
    [
        (batch_from_rows([ROW]), ShownIn.CURRENT),
        (batch_from_rows([ROW | {"flags": Flag.REVISION}]), ShownIn.CURRENT),
        (batch_from_rows([ROW | {"flags": Flag.LATE}]), ShownIn.HISTORY),
        (batch_from_rows([ROW | {"statistic": Statistic.MINIMUM}]), ShownIn.HISTORY),
        (batch_from_rows([ROW | {"statistic": Statistic.MEAN}]), ShownIn.CURRENT),
        (batch_from_rows([ROW | {"basis": Basis.DAY}]), ShownIn.HISTORY),
        (batch_from_rows([ROW | {"patient": None}]), ShownIn.UNASSIGNED),
        (DeviceEvent("d", EventKind.VALUE_ABSENT, 0), ShownIn.EVENTS),
        (HELD, ShownIn.QUARANTINE),
        (Control(ControlKind.ALARM, 0, "system", {}), ShownIn.ALERTS),
    ],
)
def test_each_thing_is_in_one_list(item: Shown, where: ShownIn) -> None:
    assert +shown_in([item]) == {where: 1}


def test_a_ledger_says_how_much_is_in_each_list() -> None:
    ledger = Ledger("d", MessageLedger(9, 5, 2, 1, 1), ReadingLedger(20, 10, 4, 3, 2, 1))
    assert shown_in([ledger]) == {
        ShownIn.QUARANTINE: 1, ShownIn.UNASSIGNED: 2, ShownIn.HISTORY: 13, ShownIn.KNOWN: 6, ShownIn.IN_FLIGHT: 2,
    }  # fmt: skip
    assert sum(shown_in([ledger, ledger]).values()) == 48
