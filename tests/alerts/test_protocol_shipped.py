"""The shipped protocols against the tables of clinical.md 4, transcribed here by hand."""

import math

import pytest

from alerts.rules.arrest import ARREST_BELOW
from alerts.rules.compile import compile_protocols
from alerts.rules.gates import PatientContext
from alerts.rules.spec import CompiledRule, Kind, Op
from tests.alerts.protocol_world import SHIPPED, adopted
from vitals.catalog import BY_CODE

FULL = PatientContext("adult", "no", "yes", 2, "yes")
SCALE_1 = PatientContext("adult", "no", "no", 1, "no")
PREGNANT, AFTER_BIRTH = SCALE_1._replace(pregnancy="yes"), SCALE_1._replace(postpartum="yes")
LOW, HIGH = 0, 1

LIMITS = [
    # rule, vital, side, S, written, reached is enough, ends at, continuous seconds, spot readings, seconds apart
    ("diabetes:D1", "glucose_isf", LOW, 1, 54, 0, 70, 900, 2, 300),
    ("diabetes:D1-bg", "glucose_bg", LOW, 1, 54, 0, 70, 0, 1, 0),
    ("diabetes:D1-bg@glucose", "glucose", LOW, 1, 54, 0, 70, 0, 1, 0),
    ("diabetes:D2", "glucose_isf", LOW, 2, 70, 0, 70, 900, 2, 60),
    ("diabetes:D2-pregnant", "glucose_isf", LOW, 2, 63, 0, 63, 900, 2, 60),
    ("diabetes:D2-bg", "glucose_bg", LOW, 2, 70, 0, 70, 0, 1, 0),
    ("diabetes:D4-bg", "glucose_bg", HIGH, 2, 250, 0, 230, 0, 1, 0),
    ("diabetes:D4", "glucose_isf", HIGH, 2, 250, 0, 230, 7200, 2, 60),
    ("diabetes:D5", "glucose_bg", HIGH, 1, 400, 0, 300, 0, 1, 0),
    ("heart_failure:H4-low", "bp_sys", LOW, 1, 80, 0, 85, 30, 2, 60),
    ("heart_failure:H4-high", "bp_sys", HIGH, 1, 170, 0, 165, 30, 2, 60),
    ("heart_failure:H5-low", "heart_rate", LOW, 1, 40, 0, 45, 60, 2, 60),
    ("heart_failure:H5-low@pulse_rate", "pulse_rate", LOW, 1, 40, 0, 45, 60, 2, 60),
    ("heart_failure:H5-high", "heart_rate", HIGH, 1, 110, 0, 105, 60, 2, 60),
    ("heart_failure:H6", "spo2", LOW, 1, 91, 1, 93, 50, 2, 60),
    ("heart_failure:H6-amber", "spo2", LOW, 2, 87, 1, 89, 50, 2, 60),
    ("heart_failure:H6-red-target", "spo2", LOW, 1, 83, 1, 85, 50, 2, 60),
    ("heart_failure:H6-over", "spo2", HIGH, 3, 92, 0, 90, 30, 2, 60),
    ("heart_failure:H6-over-high", "spo2", HIGH, 2, 97, 1, 95, 30, 2, 60),
    ("heart_failure:H7", "symptoms", HIGH, 1, 2, 1, 2, 0, 1, 0),
    ("hypertension:B2-sys", "bp_sys", HIGH, 1, 180, 0, 175, 300, 2, 60),
    ("hypertension:B2-dia", "bp_dia", HIGH, 1, 120, 0, 115, 300, 2, 60),
    *(
        (f"hypertension:{rule}-{part}-{when}", f"bp_{part}", HIGH, severity, limit, 1, limit - 5, 0, 2, 60)
        for when in ("pregnant", "after-birth")
        for rule, part, severity, limit in (
            ("O1", "sys", 1, 160),
            ("O1", "dia", 1, 110),
            ("O2", "sys", 2, 140),
            ("O2", "dia", 2, 90),
        )
    ),
    ("hypertension:B4-amber", "bp_sys", LOW, 2, 90, 0, 95, 30, 2, 60),
    ("hypertension:B4-red", "bp_sys", LOW, 1, 80, 0, 85, 30, 2, 60),
    ("copd:P1-red", "spo2", LOW, 1, 91, 1, 93, 50, 2, 300),
    ("copd:P1-amber", "spo2", LOW, 2, 87, 1, 89, 50, 2, 300),
    ("copd:P1-red-target", "spo2", LOW, 1, 83, 1, 85, 50, 2, 300),
    ("copd:P3", "spo2", HIGH, 3, 92, 0, 90, 30, 2, 60),
    ("copd:P3-high", "spo2", HIGH, 2, 97, 1, 95, 30, 2, 60),
    ("copd:P5-rr", "resp_rate", HIGH, 2, 25, 1, 23, 120, 2, 60),
    ("rhythm:R1", "heart_rate", HIGH, 1, 131, 1, 126, 120, 2, 120),
    ("rhythm:R1@pulse_rate_nibp", "pulse_rate_nibp", HIGH, 1, 131, 1, 126, 120, 2, 120),
    ("rhythm:R2", "heart_rate", HIGH, 2, 111, 1, 106, 600, 2, 600),
    ("rhythm:R3-red", "heart_rate", LOW, 1, 40, 1, 45, 60, 2, 60),
    ("rhythm:R3", "heart_rate", LOW, 3, 50, 1, 55, 60, 2, 60),
    ("rhythm:R4", "ecg_rhythm", HIGH, 2, 1, 1, 1, 0, 2, 60),
    ("rhythm:R4-af", "ecg_rhythm", HIGH, 2, 2, 1, 2, 0, 2, 60),
    ("rhythm:R5", "heart_rate", HIGH, 2, 110, 0, 105, 600, 1, 0),
    ("post_surgical:S1", "temp", HIGH, 2, 38.0, 1, 37.7, 3600, 2, 3600),
    ("post_surgical:S1-once", "temp", HIGH, 2, 38.5, 1, 38.2, 30, 1, 0),
    ("post_surgical:S2-high", "temp", HIGH, 1, 39.1, 1, 38.8, 30, 1, 0),
    ("post_surgical:S2-low", "temp", LOW, 1, 35.0, 1, 35.3, 30, 1, 0),
    ("post_surgical:S5", "spo2", LOW, 2, 93, 1, 95, 50, 2, 300),
    ("post_surgical:S5-red", "spo2", LOW, 1, 91, 1, 93, 50, 2, 300),
    ("post_surgical:S5-amber", "spo2", LOW, 2, 87, 1, 89, 50, 2, 300),
    ("post_surgical:S5-red-target", "spo2", LOW, 1, 83, 1, 85, 50, 2, 300),
    ("post_surgical:S5-over", "spo2", HIGH, 3, 92, 0, 90, 30, 2, 60),
    ("post_surgical:S5-over-high", "spo2", HIGH, 2, 97, 1, 95, 30, 2, 60),
    ("post_surgical:S6", "bp_sys", LOW, 1, 90, 1, 95, 30, 2, 60),
    ("post_surgical:S6-amber", "bp_sys", LOW, 2, 100, 1, 105, 60, 2, 60),
    ("post_surgical:S7-pain", "pain", HIGH, 2, 8, 1, 8, 0, 1, 0),
    ("post_surgical:S7", "symptoms", HIGH, 2, 1, 1, 1, 0, 1, 0),
]
DERIVED = [
    # rule, kind, op, vital, side, S, enter, reached is enough, leave, days or seconds, a, b, c
    ("diabetes:D3", Kind.FORECAST, Op.NONE, "glucose_isf", LOW, 2, 55, 1, 70, 1200, 20, 100, -1),
    ("diabetes:D3-high", Kind.FORECAST, Op.NONE, "glucose_isf", HIGH, 3, 250, 0, 230, 1200, 20, 180, 2),
    ("diabetes:D6-54", Kind.TREND, Op.SHARE_BELOW, "glucose_isf", HIGH, 3, 1, 0, 1, 14, 54, 2823, 0),
    ("diabetes:D6-70", Kind.TREND, Op.SHARE_BELOW, "glucose_isf", HIGH, 3, 4, 0, 4, 14, 70, 2823, 0),
    ("diabetes:D6-63", Kind.TREND, Op.SHARE_BELOW, "glucose_isf", HIGH, 3, 4, 0, 4, 14, 63, 2823, 0),
    ("diabetes:D8", Kind.RATE, Op.NONE, "glucose_isf", LOW, 2, -3, 0, -2, 1200, 0, 0, 0),
    ("heart_failure:H1", Kind.TREND, Op.CHANGE, "weight", HIGH, 3, 0.91, 1, 0.91, 1, 0, 0, 0),
    ("heart_failure:H2", Kind.TREND, Op.CHANGE, "weight", HIGH, 2, 1.36, 1, 1.36, 1, 0, 0, 0),
    ("heart_failure:H3", Kind.TREND, Op.CHANGE, "weight", HIGH, 2, 2.27, 1, 2.27, 7, 0, 0, 0),
    ("heart_failure:H3-days", Kind.TREND, Op.CHANGE, "weight", HIGH, 2, 2, 0, 2, 3, 0, 0, 0),
    ("heart_failure:H3-drift", Kind.TREND, Op.CHANGE, "weight", HIGH, 2, 3, 1, 3, 14, 0, 0, 0),
    ("heart_failure:H3-loss", Kind.TREND, Op.CHANGE, "weight", LOW, 3, -2.27, 1, -2.27, 7, 0, 0, 0),
    ("hypertension:B3-sys", Kind.TREND, Op.MEAN, "bp_sys", HIGH, 3, 135, 1, 135, 7, 12, 3, 0),
    ("hypertension:B3-dia", Kind.TREND, Op.MEAN, "bp_dia", HIGH, 3, 85, 1, 85, 7, 12, 3, 0),
    ("copd:P2", Kind.DEVIATION, Op.DIFFERENCE, "spo2", LOW, 2, -4, 1, -2, 0, 0, 0, 0),
    ("copd:P4-fvc", Kind.TREND, Op.BELOW_MEAN_SD, "fvc", LOW, 3, -1.645, 0, -1.645, 7, 0, 0, 0),
    ("copd:P4-fvc-again", Kind.TREND, Op.BELOW_MEAN_SD, "fvc", LOW, 2, -1.645, 0, -1.645, 7, 0, 0, 0),
    ("copd:P4-fev1", Kind.TREND, Op.BELOW_MEAN_SD, "fev1", LOW, 3, -1.645, 0, -1.645, 7, 0, 0, 0),
    ("copd:P4-fev1-again", Kind.TREND, Op.BELOW_MEAN_SD, "fev1", LOW, 2, -1.645, 0, -1.645, 7, 0, 0, 0),
    ("copd:P5-hr", Kind.DEVIATION, Op.RATIO, "heart_rate", HIGH, 2, 1.3, 0, 1.3, 0, 0, 0, 0),
    ("copd:P6", Kind.DEVIATION, Op.DIFFERENCE, "rescue_inhaler", HIGH, 3, 2, 1, 2, 0, 0, 0, 0),
    ("copd:P6-symptoms", Kind.TREND, Op.CHANGE, "symptoms", HIGH, 3, 1, 1, 1, 1, 0, 0, 0),
    ("post_surgical:S3-red", Kind.SCORE, Op.NONE, "news2", HIGH, 1, 7, 1, 6, 0, 0, 0, 0),
    ("post_surgical:S3", Kind.SCORE, Op.NONE, "news2", HIGH, 2, 5, 1, 4, 0, 0, 0, 0),
    ("post_surgical:S3-any", Kind.SCORE, Op.NONE, "news2_red", HIGH, 2, 1, 1, 0, 0, 0, 0, 0),
]
COMBINED = [
    # rule, S, seconds within, members as (vital, side, limit)
    ("heart_failure:H1-symptoms", 2, 86400, [("weight", HIGH, 0.91), ("symptoms", HIGH, 1)]),
    ("heart_failure:H4-low-symptoms", 1, 43200, [("bp_sys", LOW, 90), ("symptoms", HIGH, 1)]),
    ("heart_failure:H4-high-symptoms", 1, 43200, [("bp_sys", HIGH, 160), ("symptoms", HIGH, 1)]),
    ("heart_failure:H5-low-symptoms", 1, 43200, [("heart_rate", LOW, 50), ("symptoms", HIGH, 1)]),
    ("heart_failure:H5-low-symptoms@pulse_rate", 1, 43200, [("pulse_rate", LOW, 50), ("symptoms", HIGH, 1)]),
    ("heart_failure:H5-high-symptoms", 1, 43200, [("heart_rate", HIGH, 100), ("symptoms", HIGH, 1)]),
    ("hypertension:B1-sys", 1, 3600, [("bp_sys", HIGH, 180), ("symptoms", HIGH, 1)]),
    ("hypertension:B1-dia", 1, 3600, [("bp_dia", HIGH, 120), ("symptoms", HIGH, 1)]),
    ("hypertension:B4-symptoms", 1, 43200, [("bp_sys", LOW, 90), ("symptoms", HIGH, 1)]),
    ("post_surgical:S4", 1, 1800, [("heart_rate", HIGH, 111), ("resp_rate", HIGH, 21)]),
    ("post_surgical:S4@pulse_rate", 1, 1800, [("pulse_rate", HIGH, 111), ("resp_rate", HIGH, 21)]),
]
SILENCES = [("diabetes:D7", "glucose_isf", 3600), ("diabetes:D7-long", "glucose_isf", 21600),
            ("heart_failure:H8", "weight", 172800)]  # fmt: skip
SECOND = 1_000_000_000


def every(mode: str | None = None) -> dict[str, CompiledRule]:
    """All rules of all protocols, for patients who together open every gate."""
    protocols = list(SHIPPED.values())
    if mode is not None:
        keys = {"glucose_isf", "glucose_bg", "glucose", "heart_rate", "pulse_rate", "pulse_rate_nibp", "spo2", "bp_sys",
                "bp_dia", "resp_rate", "temp", "symptoms", "pain", "ecg_rhythm"}  # fmt: skip
        protocols = [one.model_copy(update={"measures": dict.fromkeys(keys, mode)}) for one in protocols]
    found = (compile_protocols(adopted(*protocols), context) for context in (SCALE_1, FULL, PREGNANT, AFTER_BIRTH))
    return {rule.face.name: rule for one in found for rule in one.rules}


@pytest.mark.parametrize("expected", LIMITS, ids=lambda row: row[0])
def test_limits_are_those_of_the_reference(
    expected: tuple[str, str, int, int, float, int, float, int, int, int],
) -> None:
    name, vital, side, severity, limit, inclusive, leave, for_s, readings, apart_s = expected
    flowing, spot = every("continuous")[name].spec, every("spot")[name].spec
    for spec in (flowing, spot):
        assert (spec.kind, BY_CODE[spec.vital].key, spec.side, spec.severity) == (Kind.LIMIT, vital, side, severity)
        assert (spec.limit, spec.enter, spec.inclusive) == (limit, limit, inclusive)
        assert spec.leave == pytest.approx(leave)
        assert spec.patient_limit == 0
    assert (flowing.continuous, flowing.on_delay_ns, flowing.apart_ns) == (1, for_s * SECOND, 0)
    assert (spot.continuous, spot.on_delay_ns, spot.on_count, spot.apart_ns) == (0, 0, readings, apart_s * SECOND)


NEVER = {LOW: -math.inf, HIGH: math.inf}
# 45 mg/dL or 2.5 mmol/L, whichever the meter shows: 2.5 mmol/L are 45.0455 mg/dL.
EXTREMES = [
    # rule, extreme, from there on an unanswered reading is S1 (None: never)
    ("copd:P1-red", 85, 87), ("copd:P1-red-target", 78, 83), ("post_surgical:S5-red", 85, 87),
    ("heart_failure:H6", 85, 87),
    ("heart_failure:H4-low", 69.999, 80), ("heart_failure:H4-high", 220, None), ("hypertension:B4-red", 69.999, 80),
    ("hypertension:B2-sys", 220, None), ("post_surgical:S6", 69.999, 90),
    ("heart_failure:H5-low", 35, 40), ("heart_failure:H5-high", 150, None), ("rhythm:R3-red", 35, 40),
    ("rhythm:R1", 150, None), ("diabetes:D1", 45.0455, 53.999), ("diabetes:D1-bg", 45.0455, 53.999),
    ("diabetes:D5", 600.001, None),
    ("post_surgical:S2-high", 42.501, None), ("post_surgical:S2-low", 31.999, None),
    ("hypertension:B2-dia", 160.001, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "extreme", "lone"), EXTREMES, ids=str)
def test_extreme_limits_and_unanswered_readings_are_those_of_the_reference(
    name: str, extreme: float | None, lone: float | None
) -> None:
    spot, flowing = every("spot")[name].spec, every("continuous")[name].spec
    never = NEVER[spot.side]
    assert spot.extreme == pytest.approx(never if extreme is None else extreme, abs=0.002)
    assert spot.lone == pytest.approx(never if lone is None else lone, abs=0.002)
    assert (spot.extreme_of, spot.extreme_ns) == (1, 0)
    sensor = name.startswith("diabetes")
    assert (flowing.extreme_of, flowing.extreme_ns) == ((1, 0) if sensor else (3, 30 * SECOND))


def test_a_counted_pulse_is_confirmed() -> None:
    for name in ("pulse_rate", "pulse_rate_nibp"):
        for rule in ("heart_failure:H5-low", "heart_failure:H5-high"):
            assert every("spot")[f"{rule}@{name}"].spec.extreme_ns == 60 * SECOND


def test_no_extreme_limit_holds_under_16() -> None:
    child = PatientContext("under_16", "no", "no", 1, "no")
    for rule in compile_protocols(adopted(*SHIPPED.values()), child).on_readings:
        assert rule.spec.extreme == rule.spec.arrest, "a standstill is one at any age"


def test_impossibly_low_values_are_watched_on_every_vital_that_a_protocol_names() -> None:
    for protocol in SHIPPED.values():
        rules = compile_protocols(adopted(protocol), SCALE_1).on_readings
        watched = [BY_CODE[rule.spec.vital].key for rule in rules if not math.isinf(rule.spec.arrest)]
        text = protocol.model_dump_json()
        assert sorted(watched) == sorted(key for key in ARREST_BELOW if f'"{key}"' in text), "each once"


@pytest.mark.parametrize("expected", DERIVED, ids=lambda row: row[0])
def test_what_is_derived_is_that_of_the_reference(
    expected: tuple[str, Kind, Op, str, int, int, float, int, float, int, float, float, float],
) -> None:
    name, kind, op, vital, side, severity, enter, inclusive, leave, window, a, b, c = expected
    spec = every()[name].spec
    assert (spec.kind, spec.op, BY_CODE[spec.vital].key, spec.side) == (kind, op, vital, side)
    assert (spec.severity, spec.enter, spec.inclusive, spec.leave) == (severity, enter, inclusive, leave)
    assert spec.window_ns == window * (86400 if kind == Kind.TREND else 1) * SECOND
    assert (spec.a, spec.b, spec.c) == (a, b, c)


@pytest.mark.parametrize("expected", COMBINED, ids=lambda row: row[0])
def test_combinations_are_those_of_the_reference(
    expected: tuple[str, int, int, list[tuple[str, int, float]]],
) -> None:
    name, severity, within_s, members = expected
    rule = every()[name]
    assert (rule.spec.kind, rule.spec.severity, rule.spec.window_ns) == (Kind.COMBINATION, severity, within_s * SECOND)
    found = [(BY_CODE[part.spec.vital].key, part.spec.side, part.spec.limit) for part in rule.members]
    assert found == members
    assert [part.face.name for part in rule.members] == [f"{name}#1", f"{name}#2"]
    assert {part.spec.severity for part in rule.members} == {severity}


def test_silences_are_those_of_the_reference() -> None:
    found = compile_protocols(adopted(*SHIPPED.values()), FULL).silences
    assert [(one.face.name, BY_CODE[one.vital].key, one.window_ns // SECOND) for one in found] == SILENCES
    assert all(one.severity == 3 and one.face.technical for one in found)


def test_no_shipped_rule_is_without_a_row_here() -> None:
    rows = {row[0].partition("@")[0] for row in [*LIMITS, *DERIVED, *COMBINED, *SILENCES]}
    rules = {f"{name}:{rule.id}" for name, protocol in SHIPPED.items() for rule in protocol.rules}
    assert rows == rules


def test_every_numbered_rule_of_the_reference_is_there_or_left_out_with_a_reason() -> None:
    counts = {"diabetes": ("D", 8), "heart_failure": ("H", 8), "hypertension": ("B", 6), "copd": ("P", 7),
              "rhythm": ("R", 6), "post_surgical": ("S", 8)}  # fmt: skip
    for name, (letter, last) in counts.items():
        protocol = SHIPPED[name]
        known = {one.id.partition("-")[0] for one in (*protocol.rules, *protocol.left_out)}
        obstetric = {"O1", "O2"} if name == "hypertension" else set()
        assert known == {f"{letter}{number}" for number in range(1, last + 1)} | obstetric
    assert set(SHIPPED) == set(counts)


@pytest.mark.parametrize("age", ["adult", "unknown", "under_16"])
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("oxygen", ["unknown", "no", "yes"])
def test_saturation_is_watched_in_every_context(age: str, scale: int, oxygen: str) -> None:
    context = PatientContext(age, "unknown", oxygen, scale)  # type: ignore[arg-type]
    found = compile_protocols(adopted(SHIPPED["copd"]), context)
    urgent = [rule.face.name for rule in found.rules if rule.spec.severity == 1]
    assert urgent == (["copd:P1-red-target"] if scale == 2 else ["copd:P1-red"])
    # P5-hr and P5-rr are each watched on two vitals.
    assert len(found.rules) + len(found.gated) == len(SHIPPED["copd"].rules) + 2


def test_noise_is_kept_away_by_the_median_and_a_true_fall_is_not_cancelled_by_one_reading() -> None:
    spec = every("continuous")["copd:P1-red"].spec
    assert (spec.median_of, spec.sticky, spec.on_count) == (5, 1, 1)
    assert every()["rhythm:R5"].spec.median_of == 5
    # A rule that says "all the time" is cancelled by any value inside of the limit, but readings count n of m.
    sensor = [every("continuous")[f"diabetes:{name}"].spec for name in ("D1", "D2", "D2-pregnant", "D4")]
    assert [one.sticky for one in sensor] == [0] * 4
    assert [(one.often, one.often_of, one.often_ns // SECOND) for one in sensor] == [(3, 4, 240)] * 3 + [(24, 28, 240)]


def test_some_rules_are_for_hours_of_the_day() -> None:
    rules = every()
    hours = {name: (rule.spec.from_min, rule.spec.to_min) for name, rule in rules.items() if rule.spec.to_min}
    assert hours == {
        "copd:P5-hr": (1320, 420), "copd:P5-hr@pulse_rate": (1320, 420), "rhythm:R3": (420, 1320),
        "rhythm:R3@pulse_rate": (420, 1320), "rhythm:R3@pulse_rate_nibp": (420, 1320),
        "rhythm:R3@pulse_rate_art": (420, 1320),
    }  # fmt: skip


def test_the_ward_can_adopt_all_of_them_at_once() -> None:
    found = compile_protocols(adopted(*SHIPPED.values()), FULL)
    names = [rule.face.name for rule in found.rules]
    assert len(set(names)) == len(names)
    assert found.score is not None
