"""Urgency is monotone: a value further out never waits longer, or gets less, than one nearer.

Each shipped protocol in each context, spot and continuous, as ingest flags a value and in doubt: every value of a sweep
is a patient of its own who is measured alike. Impossible values are swept where they may be an arrest. A side that has
no S1 limit is swept to where ingest begins to doubt.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pytest

from alerts.engine import SNAPSHOT_VERSION, Engine
from alerts.rules.arrest import ARREST_BELOW
from alerts.rules.compile import compile_protocols
from alerts.rules.gates import PatientContext
from alerts.rules.limits import Side
from alerts.rules.spec import Kind, RuleSpec
from ingest.quality import range_flags
from tests.alerts.alert_world import Ward, at, batch, kinds, limit, reading
from tests.alerts.programme_world import Enrolled, document, enrolled, programme, rows
from tests.alerts.protocol_world import SHIPPED, adopted
from vitals.catalog import BY_CODE, BY_KEY, Vital
from vitals.errors import BackendError
from vitals.glossary import Flag, Mode, Severity

SECOND: Final = 1_000_000_000
WAIT_S: Final = 16 * 60
BUSY_S: Final = 180
"""What is measured every 10 s raises within this time, or asks for a confirmation."""
ARRIVES_S: Final = 1.0
"""A reading arrives so long after it was measured; a deadline passes without one. Later by no more is no wait."""
EVERY_S: Final = {"glucose_isf": 300}
"""How often a continuous vital is measured where it is not every 10 s."""
CONTEXTS: Final = [
    {"oxygen": oxygen, "spo2_scale": scale, "known_af": known_af}
    for oxygen, scale, known_af in (("no", 1, "no"), ("yes", 1, "no"), ("yes", 2, "yes"), ("no", 0, "yes"))
]
Sweep = tuple[Vital, Side, list[float]]


class Told(NamedTuple):
    """When a patient's first page of at most this severity was, in seconds; infinity: never."""

    s1: float
    s2: float
    s3: float


def sweeps(specs: Sequence[RuleSpec]) -> Iterator[Sweep]:
    """Values outwards, of each side of a vital that a limit watches: around every line, and between them."""
    for code, side in sorted({(spec.vital, spec.side) for spec in specs}):
        vital, mine = BY_CODE[code], [spec for spec in specs if (spec.vital, spec.side) == (code, side)]
        low, urgent = side == Side.LOW, any(spec.severity == Severity.S1 for spec in mine)
        step = 0.1 if vital.key == "temp" else 1.0
        lines = [line for one in mine for line in (one.enter, one.extreme, one.lone) if math.isfinite(line)]
        ends = [(vital.implausible if urgent else vital.suspect)[side], vital.suspect[side]]
        if low and vital.key in ARREST_BELOW:
            ends += [0.0, ARREST_BELOW[vital.key]]
        last, first = (min(ends), max(lines) + step) if low else (max(ends), min(lines) - step)
        near = [line + turn * step for line in (*lines, *ends) for turn in (-1, 0, 1)]
        values = sorted({round(value, 3) for value in (*near, *np.linspace(first, last, 12)) if value >= 0})
        within = [value for value in values if min(first, last) <= value <= max(first, last)]
        yield vital, Side(side), within[::-1] if low else within


def flags_of(vital: Vital, value: float, doubt: int) -> int:
    """The flags of ingest, and doubt about a value that may be one."""
    found = range_flags(np.array([vital.code], np.uint16), np.array([value]), np.zeros(1, np.uint8))
    flags = int(found[0])
    return flags if flags & Flag.IMPLAUSIBLE else flags | doubt


def measured(protocol: str, context: dict[str, Any], mode: str, doubt: int) -> Iterator[tuple[Sweep, list[Told]]]:
    """What the patients of each sweep are told."""
    compiled = compile_protocols(adopted(SHIPPED[protocol]), PatientContext("adult", **context))
    limits = [rule.spec for rule in compiled.on_readings if rule.spec.kind == Kind.LIMIT and not rule.members]
    limits = [spec for spec in limits if not BY_CODE[spec.vital].values and BY_CODE[spec.vital].key != "pain"]
    found = list(sweeps(limits))
    patients = {f"p_{number}_{place}": (vital, value) for number, (vital, _, values) in enumerate(found)
                for place, value in enumerate(values)}  # fmt: skip
    ward, measures = Ward(), {vital.key: mode for vital, _, _ in found}
    ward.entry(programme("ward", [document(protocol, measures)], at(-20)))
    for patient in patients:
        for control in enrolled(patient, ["ward"], at(-20), **context):
            ward.entry(control)
    for seconds in (*range(0, BUSY_S, 10), *range(BUSY_S, WAIT_S + 1, 60)):
        every = {vital.key: EVERY_S.get(vital.key, 10) for vital, _ in patients.values()}
        rows_now = [
            reading(seconds, value, vital=vital.key, patient=patient, flags=flags_of(vital, value, doubt))
            for patient, (vital, value) in patients.items()
            if seconds == 0 or (mode == Mode.CONTINUOUS and seconds % every[vital.key] == 0)
        ]
        if rows_now:
            ward.entry(batch(*rows_now))
        ward.tick(seconds + 2)
    first = {patient: [math.inf] * 4 for patient in patients}
    for event in ward.said:
        for severity in range(event.severity, 4):
            if event.page:
                times = first[event.patient]
                times[severity] = min(times[severity], (event.at_ns - at(0)) / SECOND)
    for number, sweep in enumerate(found):
        yield sweep, [Told(*first[f"p_{number}_{place}"][1:]) for place in range(len(sweep[2]))]


def waits_longer(values: Sequence[float], told: Sequence[Told]) -> list[str]:
    """Where a value is told later, or of less, than the one before it, which is nearer."""
    places = pairwise(zip(values, told, strict=True))
    return [f"{near:g}: {one}, {far:g}: {other}" for (near, one), (far, other) in places
            if any(late > soon + ARRIVES_S for soon, late in zip(one, other, strict=True))]  # fmt: skip


@pytest.mark.parametrize("doubt", [0, int(Flag.SUSPECT)], ids=["sound", "doubtful"])
@pytest.mark.parametrize("mode", ["spot", "continuous"])
@pytest.mark.parametrize("protocol", sorted(SHIPPED))
def test_a_value_further_out_never_waits_longer_nor_gets_less(protocol: str, mode: str, doubt: int) -> None:
    wrong, swept, seen = [], 0, set()
    for context in CONTEXTS:
        compiled = compile_protocols(adopted(SHIPPED[protocol]), PatientContext("adult", **context))
        if compiled.on_readings in seen:
            continue
        seen.add(compiled.on_readings)
        for (vital, side, values), told in measured(protocol, context, mode, doubt):
            swept += len(values)
            wrong += [f"{vital.key} {side.word} {context}: {one}" for one in waits_longer(values, told)]
    assert swept > 50
    assert wrong == []


def test_the_sweep_notices_a_value_that_waits_longer() -> None:
    """As it was before: in doubt, 65 % waits for 15 minutes where 84 % pages at once."""
    soon, late, never = Told(1, 1, 1), Told(901, 1, 1), Told(math.inf, 1, 1)
    assert waits_longer([91, 84, 65], [late, soon, soon]) == []
    assert len(waits_longer([91, 84, 65], [late, soon, late])) == 1
    assert len(waits_longer([91, 84, 65], [late, soon, never])) == 1


def test_the_sweep_fails_without_extreme_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [rule.model_copy(update={"extreme": None}) for rule in SHIPPED["post_surgical"].rules
             if rule.id in ("S2-high", "S6")]  # fmt: skip
    blunt = SHIPPED["post_surgical"].model_copy(update={"rules": tuple(plain)})
    monkeypatch.setitem(SHIPPED, "post_surgical", blunt)
    monkeypatch.setattr(
        "tests.alerts.test_urgency.document", lambda *_: blunt.model_dump(mode="json", exclude_defaults=True)
    )
    found = [one for (_, _, values), told in measured("post_surgical", CONTEXTS[0], "spot", 0)
             for one in waits_longer(values, told)]  # fmt: skip
    assert found, "a temperature of 43 degrees waits for a repeat, one of 42 pages at once"


class TestExtremes:
    @pytest.mark.parametrize("flags", [0, int(Flag.SUSPECT)], ids=["sound", "doubtful"])
    @pytest.mark.parametrize(
        ("protocol", "vital", "value", "rule"),
        [("copd", "spo2", 85, "P1-red"), ("heart_failure", "spo2", 85, "H6"),
         ("hypertension", "bp_sys", 69, "B4-red"), ("hypertension", "bp_sys", 220, "B2-sys"),
         ("rhythm", "pulse_rate_nibp", 35, "R3-red@pulse_rate_nibp"),
         ("heart_failure", "heart_rate", 150, "H5-high"), ("diabetes", "glucose_bg", 45, "D1-bg"),
         ("diabetes", "glucose_isf", 45, "D1")],
    )  # fmt: skip
    def test_page_at_once(self, protocol: str, vital: str, value: float, rule: str, flags: int) -> None:
        ward = Enrolled(document(protocol))
        events = ward.feed([(0, vital, value)], flags=flags)
        if vital.startswith("pulse"):
            assert [event.severity for event in events] == [Severity.S2], "it is asked for"
            assert events[0].text.endswith("confirm now")
            events = ward.tick(61)
            assert events[0].text.endswith("no second reading within 60 s")
        (event,) = (event for event in events if event.severity == Severity.S1)
        assert (event.rule, event.page) == (f"{protocol}:{rule}", True)
        assert vital.startswith("pulse") or "confirm now" in event.text

    def test_a_second_pulse_confirms_it_sooner(self) -> None:
        ward = Enrolled(document("rhythm"))
        ward.feed([(0, "pulse_rate_nibp", 160)])
        (event,) = ward.feed([(20, "pulse_rate_nibp", 140)])
        assert (event.kind, event.severity) == ("worsened", Severity.S1)

    def test_the_next_sound_reading_refutes_it(self) -> None:
        ward = Enrolled(document("copd"))
        ward.feed([(0, "spo2", 80)])
        assert ward.feed([(60, "spo2", 96)], flags=int(Flag.SUSPECT)) == []
        (event,) = ward.feed([(120, "spo2", 96)])
        assert (event.kind, event.text.rpartition(": ")[2]) == ("returned", "refuted by a second reading")

    @pytest.mark.parametrize(("context", "at_once"), [({"spo2_scale": 1}, True), ({"spo2_scale": 2}, False)])
    def test_a_recorded_target_has_its_own(self, context: dict[str, int], at_once: bool) -> None:
        events = Enrolled(document("copd"), **context).feed([(0, "spo2", 79)])
        assert (Severity.S1 in [event.severity for event in events]) is at_once
        (event,) = Enrolled(document("copd"), **context).feed([(0, "spo2", 78)])
        assert event.severity is Severity.S1

    @pytest.mark.parametrize(
        ("activity", "severity", "words"),
        [("active", Severity.S2, "please repeat the measurement now"), ("at rest", Severity.S1, "confirm now"),
         (None, Severity.S1, "confirm now, activity unknown")],
    )  # fmt: skip
    def test_a_fast_pulse_of_a_patient_who_moves_is_none(
        self, activity: str | None, severity: Severity, words: str
    ) -> None:
        told = {} if activity is None else {"context": {"activity": activity}}
        (event,) = Enrolled(document("heart_failure")).read(0, 170, vital="heart_rate", **told)
        assert (event.severity, event.text.rpartition(": ")[2].endswith(words)) == (severity, True)
        assert event.values[0]["flags"] == []


class TestArrest:
    @pytest.mark.parametrize(
        ("protocol", "vital", "value", "rule"),
        [("copd", "spo2", 49, "P1-red"), ("copd", "heart_rate", 0, "arrest@heart_rate"),
         ("copd", "resp_rate", 1, "arrest@resp_rate"), ("post_surgical", "bp_sys", 39, "S6"),
         ("heart_failure", "heart_rate", 0, "H5-low")],
    )  # fmt: skip
    def test_an_impossible_spot_reading_is_looked_at_now(
        self, protocol: str, vital: str, value: float, rule: str
    ) -> None:
        flags = int(range_flags(np.array([BY_KEY[vital].code], np.uint16), np.array([value]), np.zeros(1, np.uint8))[0])
        (event,) = Enrolled(document(protocol)).feed([(0, vital, value)], flags=flags)
        assert (event.rule, event.severity, event.page) == (f"{protocol}:{rule}", Severity.S1, True)
        assert event.text.endswith("sensor or arrest: look now")

    @pytest.mark.parametrize(
        "flag", [Flag.SENSOR_FAULT, Flag.TEST_DATA, Flag.CONTROL_SOLUTION, Flag.LATE], ids=lambda flag: str(flag.name)
    )
    def test_a_faulty_sensor_and_what_is_no_reading_of_now_are_none(self, flag: Flag) -> None:
        ward = Enrolled(document("copd"))
        assert all(event.severity > Severity.S1 for event in ward.read(0, 0.0, flags=int(Flag.IMPLAUSIBLE | flag)))

    def flowing(self) -> Enrolled:
        return Enrolled(document("copd", {"spo2": "continuous", "heart_rate": "continuous"}))

    def test_a_continuous_signal_takes_three_of_five(self) -> None:
        ward = self.flowing()
        broken = int(Flag.IMPLAUSIBLE)
        assert ward.read(0, 45.0, flags=broken) == []
        assert ward.read(1, 97.0) == []
        assert ward.read(2, 45.0, flags=broken) == []
        assert ward.read(3, 97.0) == []
        (event,) = ward.read(4, 45.0, flags=broken)
        assert (event.severity, event.text.rpartition("(low): ")[2]) == (Severity.S1, "sensor or arrest: look now")

    def test_or_thirty_seconds(self) -> None:
        ward = self.flowing()
        assert ward.read(0, 45.0, flags=int(Flag.IMPLAUSIBLE)) == []
        assert ward.read(29, 45.0, flags=int(Flag.IMPLAUSIBLE)) == []
        again = self.flowing()
        again.read(0, 45.0, flags=int(Flag.IMPLAUSIBLE))
        assert kinds(again.read(30, 45.0, flags=int(Flag.IMPLAUSIBLE))) == ["raised"]

    @pytest.mark.parametrize(
        ("vital", "value", "flag"), [("spo2", 0, Flag.IMPLAUSIBLE), ("heart_rate", 0, Flag.SUSPECT)]
    )
    def test_one_artefact_and_a_drop_out_page_nobody(self, vital: str, value: float, flag: Flag) -> None:
        ward = self.flowing()
        ward.feed(rows(vital, 97, 97, 97, every=10))
        ward.read(30, value, vital=vital, flags=int(flag))
        assert [event for event in ward.wait(30, 3600) if event.page] == []

    def test_a_sweep_of_good_values_forgets_an_artefact(self) -> None:
        ward = self.flowing()
        for start in range(0, 100, 10):
            ward.read(start, 45.0, flags=int(Flag.IMPLAUSIBLE))
            ward.feed(rows("spo2", *[97] * 5, start=start + 1, every=1))
        assert ward.said == []

    def test_a_limit_of_the_patients_own_is_watched_too(self) -> None:
        ward = Ward(limit(low=88.0, severity="S1"), limit(low=90.0, severity="S2"))
        (event,) = ward.read(0, 40.0, flags=int(Flag.IMPLAUSIBLE))
        assert (event.rule, event.severity) == ("limit:spo2:low:S1", Severity.S1)


class TestFormerSnapshot:
    """A snapshot of version 4 has no lines of urgency: copd and hypertension in force, three first readings."""

    DATA: Final = (Path(__file__).parents[1] / "fixtures" / "engine" / "snapshot-4.msgpack").read_bytes()

    def test_its_rules_are_compiled_anew_and_its_readings_wait_on(self) -> None:
        ward = Ward()
        ward.engine = Engine.restore(self.DATA)
        ward.tick(15 * 60 + 10)
        ward.tick(15 * 60 + 20)
        assert {(event.rule, event.severity) for event in ward.said if event.kind == "worsened"} == {
            ("copd:P1-red", Severity.S1), ("hypertension:B4-red", Severity.S1)}  # fmt: skip
        (event,) = ward.read(16 * 60, 10.0, vital="heart_rate", flags=int(Flag.SUSPECT))
        assert event.rule == "copd:arrest@heart_rate"
        (event,) = ward.read(16 * 60, 10.0, vital="pulse_rate", patient="p_2", flags=int(Flag.IMPLAUSIBLE))
        assert event.rule == "limit:pulse_rate:low:S1"

    def test_it_goes_on_as_a_snapshot_of_now(self) -> None:
        saved = Engine.restore(self.DATA).snapshot()
        assert Engine.restore(saved).snapshot() == saved
        assert msgspec.msgpack.decode(saved)[0] == SNAPSHOT_VERSION

    def test_an_older_one_is_refused(self) -> None:
        state = msgspec.msgpack.decode(self.DATA)
        with pytest.raises(BackendError, match="version 3"):
            Engine.restore(msgspec.msgpack.encode([3, *state[1:]]))
