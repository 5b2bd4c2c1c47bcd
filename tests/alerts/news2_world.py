"""NEWS2 by hand: patients as dicts, and the table of clinical.md 2.1 read from its page, one value at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alerts.scores.news2 import ContextColumns, Latest, News2, Programme, VitalColumn, news2
from alerts.scores.tables import AgeBand, Parameter, Pregnancy, Validity
from vitals.catalog import BY_KEY
from vitals.glossary import Mode
from vitals.times import MINUTE_NS, NO_TIME

PAGE = (Path(__file__).parents[2] / "docs/reference/clinical.md").read_text(encoding="utf-8")
NOW = 1_700_000_000 * 1_000_000_000
KEYS = (
    "resp_rate",
    "spo2",
    "o2_flow",
    "fio2",
    "bp_sys",
    "heart_rate",
    "pulse_rate",
    "pulse_rate_nibp",
    "acvpu",
    "temp",
)
WARD = Programme(dict.fromkeys(KEYS, Mode.SPOT))
WELL: Mapping[str, float] = {
    "resp_rate": 16, "spo2": 97, "o2_flow": 0, "bp_sys": 122, "pulse_rate": 72, "acvpu": 0, "temp": 36.8
}  # fmt: skip
AT_HOME = ("resp_rate", "spo2", "bp_sys", "pulse_rate", "temp")
HOME = Programme(dict.fromkeys(AT_HOME, Mode.SPOT), assume_air=True, assume_alert=True)
ROWS = {
    "Respiration (/min)": Parameter.RESP_RATE, "SpO2 scale 1 (%)": Parameter.SPO2,
    "Systolic BP (mmHg)": Parameter.BP_SYS, "Pulse (/min)": Parameter.PULSE, "Temperature (degC)": Parameter.TEMP,
}  # fmt: skip


def table(section: str) -> list[list[str]]:
    """Cells of the first table of a section of the page, without its head."""
    text = PAGE.partition(f"\n### {section} ")[2].partition("\n### ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def _span(cell: str) -> tuple[float, float]:
    if cell.startswith("<="):
        return -np.inf, float(cell[2:])
    if cell.startswith(">="):
        return float(cell[2:]), np.inf
    low, high = cell.split("-")
    return float(low), float(high)


SPANS = {
    ROWS[name]: [(*_span(cell), abs(column - 3)) for column, cell in enumerate(cells) if cell]
    for name, *cells in table("2.1")
    if name in ROWS
}
"""Parameter -> (lowest value, highest value, points), in order, as written."""


def scale_2(spo2: int, on_oxygen: bool) -> int:
    if spo2 <= 83:
        return 3
    if spo2 <= 85:
        return 2
    if spo2 <= 87:
        return 1
    if spo2 <= 92 or not on_oxygen:
        return 0
    return 1 if spo2 <= 94 else 2 if spo2 <= 96 else 3


def points_by_hand(patient: Mapping[str, float], scale: int = 1) -> list[int]:
    """Points of one patient with all seven values, each already rounded."""

    def written(which: Parameter, value: float) -> int:
        [points] = [points for low, high, points in SPANS[which] if low <= value <= high]
        return points

    given = patient["o2_flow"] > 0
    spo2 = scale_2(int(patient["spo2"]), given) if scale == 2 else written(Parameter.SPO2, patient["spo2"])
    return [
        written(Parameter.RESP_RATE, patient["resp_rate"]), spo2, 2 if given else 0,
        written(Parameter.BP_SYS, patient["bp_sys"]), written(Parameter.PULSE, patient["pulse_rate"]),
        3 if patient["acvpu"] else 0, written(Parameter.TEMP, patient["temp"]),
    ]  # fmt: skip


def latest(patient: Mapping[str, Any], key: str) -> Latest:
    """A number is measured a minute ago; None or nothing was never measured."""
    found = patient.get(key)
    if found is None:
        return Latest(np.nan, NO_TIME)
    return found if isinstance(found, Latest) else Latest(float(found), NOW - MINUTE_NS)


def columns(patients: Sequence[Mapping[str, Any]]) -> dict[str, VitalColumn]:
    keys = dict.fromkeys(key for patient in patients for key in patient)
    assert keys.keys() <= BY_KEY.keys()
    return {
        key: VitalColumn(
            np.array([latest(patient, key).value for patient in patients], dtype=np.float64),
            np.array([latest(patient, key).time_ns for patient in patients], dtype=np.int64),
            np.array([latest(patient, key).flags for patient in patients], dtype=np.uint32),
        )
        for key in keys
    }


def context(size: int, **changes: Sequence[int]) -> ContextColumns:
    fields: dict[str, Any] = {
        "age_band": np.full(size, AgeBand.ADULT, np.uint8), "pregnancy": np.full(size, Pregnancy.NO, np.uint8),
        "spo2_scale": np.ones(size, np.uint8), "usual_confusion": np.zeros(size, np.bool_),
    }  # fmt: skip
    return ContextColumns(**fields | {name: np.array(value, fields[name].dtype) for name, value in changes.items()})


def score(
    *patients: Mapping[str, Any], programme: Programme = WARD, now_ns: int = NOW, **changes: Sequence[int]
) -> News2:
    """Adults on scale 1, unless ``changes`` say otherwise."""
    return news2(columns(patients), context(len(patients), **changes), now_ns, programme)


def validity(scores: News2, which: Parameter, row: int = 0) -> Validity:
    return Validity(scores.validity[which, row])
