"""Closed vocabularies: every word has one meaning, numbers on the wire stay."""

from enum import Enum

import pytest

from vitals.errors import BackendError, DecodeError, InvalidRequest, NotFound, PositionConflict, VitalgateError
from vitals.glossary import (
    FLAG_MEANINGS,
    NOT_SCORED,
    AlertState,
    Basis,
    ControlKind,
    EventKind,
    Flag,
    Mode,
    Reason,
    Severity,
    Statistic,
)

DOCUMENTED: tuple[type[Enum], ...] = (Reason, AlertState, EventKind, ControlKind, Basis)


@pytest.mark.parametrize("vocabulary", DOCUMENTED)
def test_every_word_has_a_meaning_of_its_own(vocabulary: type[Enum]) -> None:
    meanings = [member.meaning for member in vocabulary]  # type: ignore[attr-defined]
    assert all(isinstance(meaning, str) and len(meaning) >= 4 for meaning in meanings)
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("vocabulary", DOCUMENTED)
def test_vocabularies_are_closed(vocabulary: type[Enum]) -> None:
    for unknown in ("no such word", 99):
        with pytest.raises(ValueError, match="is not a valid"):
            vocabulary(unknown)


@pytest.mark.parametrize("vocabulary", [Reason, AlertState, EventKind, ControlKind, Mode])
def test_a_word_is_its_name_in_lower_case(vocabulary: type[Enum]) -> None:
    """The same word in code, metric, log, API and docs."""
    for member in vocabulary:
        assert member.value == str(member) == member.name.lower()
        assert vocabulary(member.value) is member


def test_every_flag_is_one_bit_with_a_meaning() -> None:
    assert set(FLAG_MEANINGS) == set(Flag)
    assert [int(flag) for flag in Flag] == [1 << bit for bit in range(len(Flag))]
    assert len(Flag) <= 32
    assert len(set(FLAG_MEANINGS.values())) == len(Flag)


def test_numbers_on_the_wire_keep_their_meaning() -> None:
    """Append-only: logs and stores hold them."""
    assert [flag.name for flag in Flag][:17] == [
        "IMPLAUSIBLE", "SUSPECT", "BELOW_RANGE", "ABOVE_RANGE", "CLOCK_CORRECTED", "CLOCK_SUSPECT", "LATE",
        "LOW_QUALITY", "ESTIMATED", "MANUAL", "REPLAYED", "RETRACTED", "POSSIBLE_DUPLICATE", "REVISION",
        "CONTROL_SOLUTION", "TEST_DATA", "SENSOR_FAULT",
    ]  # fmt: skip
    assert [basis.name for basis in Basis] == ["DEVICE", "DEVICE_ASSUMED_ZONE", "HUB", "RECEIVED", "DAY", "UNKNOWN"]
    assert [int(basis) for basis in Basis] == list(range(6))
    assert [statistic.name for statistic in Statistic][:9] == [
        "SINGLE", "MEAN", "MINIMUM", "MAXIMUM", "SUM", "COUNT", "MEDIAN", "STANDARD_DEVIATION", "VARIANCE",
    ]  # fmt: skip
    assert [int(severity) for severity in Severity] == [1, 2, 3]


def test_history_is_not_scored_and_extremes_are() -> None:
    for flag in (Flag.IMPLAUSIBLE, Flag.LATE, Flag.RETRACTED, Flag.CONTROL_SOLUTION, Flag.TEST_DATA):
        assert flag in NOT_SCORED
    for flag in (Flag.BELOW_RANGE, Flag.ABOVE_RANGE, Flag.SUSPECT, Flag.MANUAL, Flag.LOW_QUALITY, Flag.REVISION):
        assert flag not in NOT_SCORED


def test_errors_carry_what_their_handlers_need() -> None:
    decode = DecodeError(Reason.TRUNCATED, "byte 7")
    assert (decode.reason, decode.detail, str(decode)) == (Reason.TRUNCATED, "byte 7", "truncated: byte 7")
    assert str(DecodeError(Reason.EMPTY)) == "empty"
    conflict = PositionConflict("engine", 3, 5)
    assert isinstance(conflict, BackendError)
    assert str(conflict) == "engine: position is 5, expected 3"
    assert str(NotFound("patient", "p_1")) == "no such patient: p_1"
    assert (InvalidRequest("limits[0].low", "not a number").field, NotFound("a", "b").kind) == ("limits[0].low", "a")
    assert all(issubclass(error, VitalgateError) for error in (DecodeError, BackendError, NotFound, InvalidRequest))
