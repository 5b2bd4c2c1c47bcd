"""Readings of a CSV file for a backtest: strict, since a row left out would be an alert left out.

Either ``time,value`` of one patient, with vital and unit said beside, or ``patient,time,vital,value,unit`` and, where
it is known, ``received``. Times are RFC 3339 or milliseconds since 1970; values numbers, LO or HI for what a sensor
could not measure, or the words of an enumeration. Patients are plain labels.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts.backtest.labelled import Onset
from alerts.backtest.report import report
from alerts.backtest.rules import HISTORY_NS, Decisions, rule_set
from alerts.backtest.run import Coverage, RuleSet, RuleSetOutcome, RuleSetReplay, Span, as_measured, lockstep
from deploy.backtest import NO_RULES
from deploy.backtest.table import WrongCell, rows_of, time_of
from ingest.quality import cross_flags, late_flags, range_flags
from vitals.catalog import BY_CODE, BY_KEY, Vital, accepts
from vitals.errors import InvalidRequest
from vitals.glossary import Flag
from vitals.model import COLUMNS, VitalBatch
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE, UNIT_BY_NAME, to_canonical

SHORT: Final = ("time", "value")
LONG: Final = ("patient", "time", "vital", "value", "unit")
RECEIVED: Final = "received"
ONE_PATIENT: Final = "patient"
"""Label of the patient of a file that names none."""
_BEYOND: Final[Mapping[str, Flag]] = {
    "lo": Flag.BELOW_RANGE, "low": Flag.BELOW_RANGE, "hi": Flag.ABOVE_RANGE, "high": Flag.ABOVE_RANGE,
}  # fmt: skip


class _Reader:
    """Rows as columns of numbers; vocabularies grow as rows come."""

    def __init__(self, header: Sequence[str], vital: str | None, unit: str | None) -> None:
        self._said = [ONE_PATIENT, vital, unit]
        self._columns = [header.index(name) if name in header else -1 for name in ("patient", "vital", "unit")]
        self._time, self._value = header.index("time"), header.index("value")
        self._received = header.index(RECEIVED) if RECEIVED in header else -1
        self.patients: dict[str, int] = {}
        self.rows: list[tuple[int, int, int, int, float, int, int]] = []
        """(patient, vital, unit, time_ns, reported, flags, received_ns)"""

    def take(self, row: Sequence[str]) -> None:
        label, key, name = (said if at < 0 else row[at] for at, said in zip(self._columns, self._said, strict=True))
        number = self.patients.get(label or "")
        if number is None:
            number = self._patient(label or "")
        vital, unit = _measure(key, name)
        time_ns = time_of(row[self._time], "time")
        value, flags = _value(row[self._value], vital)
        received_ns = time_ns if self._received < 0 else time_of(row[self._received], RECEIVED)
        if received_ns < time_ns:
            raise WrongCell(RECEIVED, "is before the measurement")
        self.rows.append((number, vital.code, unit, time_ns, value, flags, received_ns))

    def _patient(self, label: str) -> int:
        """The number of a patient, by its label without the spaces around it."""
        patient = label.strip()
        if not patient or not patient.isprintable():
            raise WrongCell("patient", "is empty or has control characters")
        return self.patients.setdefault(patient, len(self.patients))


def read(path: Path, vital: str | None, unit: str | None) -> VitalBatch:
    """The readings in order of arrival, flagged as ingest flags them.

    Raises:
        InvalidRequest: no such file, a wrong header, or the first cell that cannot be read, by row and column.
    """
    table = rows_of(path, "--csv")
    _, header = next(table)
    _check_header(header, vital, unit)
    reader = _Reader(header, vital, unit)
    for number, row in table:
        try:
            reader.take(row)
        except WrongCell as wrong:
            raise InvalidRequest("--csv", f"row {number}, column {wrong.column}: {wrong.problem}") from wrong
    if not reader.rows:
        raise InvalidRequest("--csv", f"{path}: no rows")
    return _batch(reader, late=RECEIVED in header)


def _check_header(header: Sequence[str], vital: str | None, unit: str | None) -> None:
    if sorted(header) in (sorted(LONG), sorted((*LONG, RECEIVED))):
        if vital is not None or unit is not None:
            raise InvalidRequest("--vital", "the file says vital and unit itself")
        return
    if sorted(header) != sorted(SHORT):
        raise InvalidRequest("--csv", f"row 1: the header is {','.join(SHORT)}, or {','.join(LONG)}[,{RECEIVED}]")
    if vital is None or unit is None:
        raise InvalidRequest("--vital", f"a file of {','.join(SHORT)} needs --vital and --unit")


@lru_cache(maxsize=1024)
def _measure(key: str | None, unit: str | None) -> tuple[Vital, int]:
    vital = BY_KEY.get((key or "").strip())
    if vital is None or vital.panel:
        raise WrongCell("vital", "is no vital sign of the catalogue")
    name = (unit or "").strip()
    if not accepts(vital, name):
        raise WrongCell("unit", f"does not measure {vital.key}")
    return vital, UNIT_BY_NAME[name].code


def _value(text: str, vital: Vital) -> tuple[float, int]:
    word = text.strip()
    if word in vital.values:
        return float(vital.values.index(word)), 0
    if word.lower() in _BEYOND:
        return math.nan, int(_BEYOND[word.lower()])
    try:
        number = float(word)
    except ValueError as error:
        raise WrongCell("value", "is no number") from error
    if not math.isfinite(number):
        raise WrongCell("value", "is no finite number")
    if vital.values and number not in range(len(vital.values)):
        raise WrongCell("value", f"is none of {', '.join(vital.values)}")
    return number, 0


def _batch(reader: _Reader, *, late: bool) -> VitalBatch:
    patient, vital, unit, time_ns, reported, flags, received_ns = zip(*reader.rows, strict=True)
    rows = len(patient)
    columns: dict[str, Any] = {name: np.zeros(rows, dtype=dtype) for name, dtype in COLUMNS.items()}
    given = {
        "patient": patient, "vital": vital, "unit": unit, "time_ns": time_ns, "source_time_ns": time_ns,
        "reported": reported, "flags": flags, "received_ns": received_ns, "seq": range(rows),
        # Readings of one instant of a patient are one measurement: systolic and diastolic belong together.
        "message": patient,
    }  # fmt: skip
    columns |= {name: np.array(column, dtype=COLUMNS[name]) for name, column in given.items()}
    columns["end_ns"][:] = NO_TIME
    columns["value"] = _canonical(columns)
    columns["flags"] |= range_flags(columns["vital"], columns["value"], columns["statistic"])
    columns["flags"] |= cross_flags(columns["message"], columns["time_ns"], columns["vital"], columns["value"])
    if late:
        columns["flags"] |= late_flags(columns["vital"], columns["time_ns"], columns["received_ns"], columns["basis"])
    batch = VitalBatch(("csv",), tuple(reader.patients), **columns)
    return batch.take(np.lexsort((batch.seq, batch.time_ns, batch.received_ns)))


def _canonical(columns: Mapping[str, Any]) -> Any:
    """Values in the unit of their vital, converted together for each pair of vital and unit."""
    value = columns["reported"].copy()
    pairs = np.unique(np.stack([columns["vital"], columns["unit"]]), axis=1)
    for vital, unit in pairs.T.tolist():
        rows = (columns["vital"] == vital) & (columns["unit"] == unit)
        value[rows] = to_canonical(value[rows], UNIT_BY_CODE[unit].ucum, BY_CODE[vital].unit)
    return value


class Asked(NamedTuple):
    """What is asked of a file: (vital, unit) where it does not say them, patients (none: all), the rules to try and
    those to compare with, clinical context of all patients, labelled onsets (patient, time)."""

    measure: tuple[str | None, str | None]
    patients: Sequence[str]
    rules: Any
    against: Any | None
    context: Mapping[str, Any]
    measured: bool
    events: Sequence[tuple[str, int]] = ()


def replay_file(path: Path, asked: Asked) -> dict[str, Any]:
    """The result for a file, as JSON. Without ``received`` readings come when they were measured; with nothing to
    compare with, they are compared with no rules at all. Raises ``InvalidRequest``."""
    batch = read(path, *asked.measure)
    if asked.patients:
        unknown = [token for token in asked.patients if token not in batch.patients]
        if unknown:
            raise InvalidRequest("--patients", f"{len(unknown)} are not in the file")
        batch = batch.take(np.isin(batch.patient, [batch.patients.index(token) for token in asked.patients]))
    if asked.measured:
        batch = as_measured(batch)
    patients = tuple(asked.patients) or batch.patients
    events = [Onset(*one) for one in asked.events if one[0] in patients]
    span = Span(int(batch.received_ns[0]), int(batch.received_ns[-1]) + 1, int(batch.received_ns[0]), whole=True)
    context = {"version": 1, "reason": "assumed"} | dict(asked.context)
    known = Decisions(contexts={one: {"patient": one} | context for one in patients} if asked.context else {})
    at_ns = span.start_ns - HISTORY_NS
    rules = (
        rule_set("candidate", asked.rules, patients, known, at_ns),
        RuleSet(NO_RULES, ()) if asked.against is None else rule_set("against", asked.against, patients, known, at_ns),
    )
    coverage = Coverage(span)
    # A set without rules says nothing: it needs no replay.
    outcomes = lockstep([batch], coverage, [RuleSetReplay(one, span, patients) for one in rules if one.controls])
    outcomes += [RuleSetOutcome(one.name, [], {}, 0) for one in rules if not one.controls]
    measured = asked.measured or bool((batch.received_ns == batch.time_ns).all())
    result = report(span, patients, coverage, rules, outcomes, measured=measured, events=events)
    return dict(msgspec.to_builtins(result))
