"""A ward whose patients are spread over the shipped programmes: its readings, its size, a change of its rules."""

import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from alerts.engine import Engine
from alerts.rules.protocol import document, shipped
from deploy.bench.report import Figure
from vitals.catalog import BY_KEY
from vitals.glossary import Basis, ControlKind
from vitals.model import COLUMNS, Control, Int64, VitalBatch
from vitals.times import MINUTE_NS, NO_TIME

START_NS: Final = 1_700_000_000_000_000_000
CHANGED: Final = "heart_failure"
"""The programme that a new version changes: the one with the most rules."""
USUAL: Final = {
    "heart_rate": (75.0, 4.0), "pulse_rate": (75.0, 4.0), "pulse_rate_nibp": (75.0, 4.0), "spo2": (96.0, 0.8),
    "resp_rate": (16.0, 1.0), "temp": (36.8, 0.2), "bp_sys": (125.0, 5.0), "bp_dia": (78.0, 3.0),
    "glucose_isf": (130.0, 10.0), "glucose_bg": (130.0, 10.0), "weight": (70.0, 0.1), "fev1": (2.5, 0.05),
    "fvc": (3.2, 0.05),
}  # fmt: skip
"""Vital sign -> mean and spread, in its canonical unit, of readings that raise no alert."""
ILL_MINUTES: Final = 10
ILL: Final = 0.5
"""One patient in a thousand has half of the usual value for ten minutes."""
_ILL_EVERY: Final = 1000
_CONTEXT: Final = {"age_band": "adult", "pregnancy": "no", "spo2_scale": 1, "oxygen": "no", "known_af": "no"}
_PROGRAMMES: Final = tuple(protocol.name for protocol in shipped())


class Ward:
    """An engine in which patient ``p_<n>`` is enrolled in programme ``n`` modulo the number of programmes."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.engine.warm()
        self.patients = 0
        for protocol in shipped():
            self.tell(ControlKind.PROGRAMME, programme(protocol.name, 1))

    def tell(self, kind: ControlKind, body: dict[str, Any]) -> None:
        """A control entry."""
        self.engine.apply(self.engine.position + 1, Control(kind, START_NS, "bench", body))

    def enrol(self, programmes: tuple[str, ...] = _PROGRAMMES) -> None:
        """One more patient, with the context that programmes ask for."""
        known = {"patient": f"p_{self.patients}", "version": 1, "reason": "benchmark"}
        self.tell(ControlKind.CONTEXT, known | _CONTEXT)
        enrolled = [programmes[self.patients % len(programmes)]]
        self.tell(ControlKind.ENROLMENT, known | {"programmes": enrolled, "overrides": []})
        self.patients += 1


def programme(name: str, version: int) -> dict[str, Any]:
    """A programme of the shipped protocol of its name; later versions have each limit a little lower."""
    [protocol] = [protocol for protocol in shipped() if protocol.name == name]
    body = document(protocol)
    for key in ("above", "below", "at_or_above", "at_or_below") if version > 1 else ():
        lower(body, key, 0.01 * version)
    return {"programme": name, "version": version, "title": name, "reason": "benchmark", "protocols": [body]}


def lower(part: Any, key: str, by: float) -> None:
    """Take ``by`` from every number called ``key``, at any depth."""
    if isinstance(part, dict):
        if isinstance(part.get(key), float):
            part[key] -= by
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        lower(inner, key, by)


def watched(ward: Ward, patients: int) -> tuple[Int64, Int64]:
    """(patient, vital code) of each vital sign of ``USUAL`` that a rule of one of the first ``patients`` reads."""
    usual = {BY_KEY[key].code for key in USUAL}
    pairs = []
    for number in range(patients):
        compiled = ward.engine.compiled(f"p_{number}").rules
        specs = [part.spec for rule in compiled for part in (rule.members or (rule,))]
        pairs += [(number, vital) for vital in sorted({spec.vital for spec in specs} & usual)]
    patient, vital = np.array(pairs, dtype=np.int64).T
    return patient, vital


def readings(ward: Ward, rows: int, per_entry: int) -> Iterator[VitalBatch]:
    """At least ``rows`` readings, one a minute of everything that is watched, whole minutes in each entry."""
    patient, vital = watched(ward, ward.patients)
    tokens = tuple(f"p_{number}" for number in range(ward.patients))
    center, spread = (np.zeros(int(vital.max()) + 1) for _ in range(2))
    for key, (mean, deviation) in USUAL.items():
        if BY_KEY[key].code <= vital.max():
            center[BY_KEY[key].code], spread[BY_KEY[key].code] = mean, deviation
    random = np.random.default_rng(7)
    together = max(per_entry // len(patient), 1)
    for first in range(0, -(-rows // len(patient)), together):
        minute = np.repeat(np.arange(first, first + together), len(patient))
        who, what = np.tile(patient, together), np.tile(vital, together)
        ill = who % _ILL_EVERY == minute // ILL_MINUTES % _ILL_EVERY
        value = (center[what] + spread[what] * random.standard_normal(len(who))) * np.where(ill, ILL, 1.0)
        time_ns = START_NS + minute * MINUTE_NS
        known: dict[str, Any] = {
            "device": who, "patient": who, "vital": what, "source_time_ns": time_ns, "time_ns": time_ns,
            "end_ns": NO_TIME, "value": value, "reported": value, "basis": Basis.DEVICE, "seq": minute,
            "received_ns": time_ns + MINUTE_NS // 60,
        }  # fmt: skip
        columns: dict[str, Any] = {name: np.full(len(who), known.get(name, 0), kind) for name, kind in COLUMNS.items()}
        yield VitalBatch(tokens, tokens, **columns)


def enrolled(slots: int) -> list[Figure]:
    """Enrol patients in a separate process until there are ``slots`` slots; its time and its peak memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        return [Figure(*figure) for figure in alone.submit(_enrol_until, slots).result()]


def changed(patients: int) -> list[Figure]:
    """Adopt a new version of the programme of ``patients`` enrolled patients."""
    ward = Ward()
    for _ in range(patients):
        ward.enrol((CHANGED,))
    body = programme(CHANGED, 2)
    started_s = time.perf_counter()
    ward.tell(ControlKind.PROGRAMME, body)
    return [Figure("protocol_change_s", time.perf_counter() - started_s, "s")]


def _enrol_until(slots: int) -> list[tuple[str, float, str]]:
    ward = Ward()
    started_s = time.perf_counter()
    while ward.engine.slot_count() < slots:
        ward.enrol()
    taken_s = time.perf_counter() - started_s
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None, "the kernel tells the peak"
    return [
        ("slots", ward.engine.slot_count(), "1"), ("slots_patients", ward.patients, "1"),
        ("slots_enrol_s", taken_s, "s"), ("slots_peak_rss_mb", int(peak[1]) / 1024, "MB"),
    ]  # fmt: skip
