"""Every shipped rule through the engine: what raises it, how it reads, and that what it says ends it does."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from alerts.rules.compile import compile_protocols
from alerts.rules.gates import PatientContext
from tests.alerts.alert_world import Ward
from tests.alerts.programme_world import TICK, Enrolled, Row, daily, day, document, of_rule, rows, steps
from tests.alerts.protocol_world import SHIPPED, adopted

ON_TARGET = {"spo2_scale": 2, "oxygen": "yes"}
KNOWN_AF = {"known_af": "yes"}
PREGNANT = {"pregnancy": "yes"}
AFTER_BIRTH = {"postpartum": "yes"}
CGM = "glucose_isf"


class Case(NamedTuple):
    """``begin`` raises the rule with its last row and not before; ``end`` likewise ends it, as ``resolves`` says."""

    rule: str
    severity: int
    begin: list[Row]
    text: str
    end: list[Row]
    resolves: str
    context: Mapping[str, Any] = MappingProxyType({})


def cgm(*values: float, start: float = 0) -> list[Row]:
    return rows(CGM, *values, start=start, every=300)


def lows(value: float, each: int) -> list[Row]:
    """2823 readings of the sensor, every n-th of them low."""
    return cgm(*(value if number % each == each - 1 else 100.0 for number in range(2823)))


def bp_days(vital: str, value: float) -> list[Row]:
    """Two readings each morning and evening of four days."""
    hours = (7, 7.1, 19, 19.1)
    return [(day(number, hour), vital, value) for number in range(4) for hour in hours]


def beats(vital: str, value: float, seconds: int, start: float = 0) -> list[Row]:
    """A reading every 10 s."""
    return rows(vital, *([value] * (seconds // 10 + 1)), start=start, every=10)


def scored(start: float, **changes: float) -> list[Row]:
    """All seven inputs of a well patient but for the changes, and a tick."""
    well = {"resp_rate": 16, "spo2": 97, "o2_flow": 0, "bp_sys": 122, "heart_rate": 72, "temp": 36.8, "acvpu": 0}
    return [*((start, vital, value) for vital, value in {**well, **changes}.items()), (start + 60, TICK, 0)]


LIMITED = [
    Case("diabetes:D1", 1, cgm(50, 50, 50), "Interstitial glucose (CGM) 50 mg/dL, limit 54 mg/dL (low)",
         cgm(75, 75, 75, 75, start=1200), "is 70 mg/dL or more for 15 min"),
    *(Case(f"diabetes:D1-bg{also}", 1, rows(vital, 50), f"{name} 50 mg/dL, limit 54 mg/dL (low)",
           rows(vital, 75, 75, start=600), "is 70 mg/dL or more in 2 readings")
      for also, vital, name in (("", "glucose_bg", "Capillary blood glucose"),
                                ("@glucose", "glucose", "Glucose, sample type unknown"))),
    Case("diabetes:D2", 2, cgm(65, 65, 65), "Interstitial glucose (CGM) 65 mg/dL, limit 70 mg/dL (low)",
         cgm(70, 70, 70, 70, start=1200), "is 70 mg/dL or more for 15 min"),
    *(Case(f"diabetes:D2-bg{also}", 2, rows(vital, 69), f"{name} 69 mg/dL, limit 70 mg/dL (low)",
           rows(vital, 70, 70, start=600), "is 70 mg/dL or more in 2 readings")
      for also, vital, name in (("", "glucose_bg", "Capillary blood glucose"),
                                ("@glucose", "glucose", "Glucose, sample type unknown"))),
    *(Case(f"diabetes:D4-bg{also}", 2, rows(vital, 251), f"{name} 251 mg/dL, limit 250 mg/dL (high)",
           rows(vital, 230, start=600), "is 230 mg/dL or less")
      for also, vital, name in (("", "glucose_bg", "Capillary blood glucose"),
                                ("@glucose", "glucose", "Glucose, sample type unknown"))),
    Case("diabetes:D2-pregnant", 2, cgm(62, 62, 62), "Interstitial glucose (CGM) 62 mg/dL, limit 63 mg/dL (low)",
         cgm(63, 63, 63, 63, start=1200), "is 63 mg/dL or more for 15 min", PREGNANT),
    Case("diabetes:D4", 2, cgm(*[260] * 24), "Interstitial glucose (CGM) 260 mg/dL, limit 250 mg/dL (high)",
         cgm(*[225] * 7, start=7500), "is 230 mg/dL or less for 30 min"),
    *(Case(f"diabetes:D5{also}", 1, rows(vital, 420), f"{name} 420 mg/dL, limit 400 mg/dL (high)",
           rows(vital, 300, start=600), "is 300 mg/dL or less")
      for also, vital, name in (("", "glucose_bg", "Capillary blood glucose"),
                                ("@glucose", "glucose", "Glucose, sample type unknown"))),
    Case("heart_failure:H4-low", 1, rows("bp_sys", 75, 75), "Systolic blood pressure 75 mmHg, limit 80 mmHg (low)",
         rows("bp_sys", 85, 85, start=600), "is 85 mmHg or more in 2 readings"),
    Case("heart_failure:H4-high", 1, rows("bp_sys", 180, 180),
         "Systolic blood pressure 180 mmHg, limit 170 mmHg (high)",
         rows("bp_sys", 165, 165, start=600), "is 165 mmHg or less in 2 readings"),
    Case("heart_failure:H6", 1, rows("spo2", 90, 90), "Oxygen saturation 90 %, limit 91 % (low)",
         rows("spo2", 93, 93, start=600), "is 93 % or more in 2 readings", {"oxygen": "yes"}),
    *(case for name, every in (("heart_failure:H6", 60), ("post_surgical:S5", 300)) for case in (
        Case(f"{name}-amber", 2, rows("spo2", 86, 86, every=every), "Oxygen saturation 86 %, limit 87 % (low)",
             rows("spo2", 89, 89, start=600), "is 89 % or more in 2 readings", ON_TARGET),
        Case(f"{name}-red-target", 1, rows("spo2", 82, 82, every=every), "Oxygen saturation 82 %, limit 83 % (low)",
             rows("spo2", 85, 85, start=600), "is 85 % or more in 2 readings", ON_TARGET),
        Case(f"{name}-over", 3, rows("spo2", 95, 95), "Oxygen saturation 95 %, limit 92 % (high)",
             rows("spo2", 90, 90, start=600), "is 90 % or less in 2 readings", ON_TARGET),
        Case(f"{name}-over-high", 2, rows("spo2", 97, 97), "Oxygen saturation 97 %, limit 97 % (high)",
             rows("spo2", 95, 95, start=600), "is 95 % or less in 2 readings", ON_TARGET),
    )),
    *(Case(f"hypertension:{rule}-{part}-{when}", severity, rows(f"bp_{part}", limit, limit),
           f"{name} blood pressure {limit} mmHg, limit {limit} mmHg (high)",
           rows(f"bp_{part}", limit - 5, limit - 5, start=600), f"is {limit - 5} mmHg or less in 2 readings", context)
      for when, context in (("pregnant", PREGNANT), ("after-birth", AFTER_BIRTH))
      for rule, severity, part, name, limit in (
          ("O1", 1, "sys", "Systolic", 160), ("O1", 1, "dia", "Diastolic", 110),
          ("O2", 2, "sys", "Systolic", 140), ("O2", 2, "dia", "Diastolic", 90))),
    Case("heart_failure:H7", 1, rows("symptoms", 2), "Symptoms reported alarming, limit alarming (high)",
         rows("symptoms", 1, 0, start=600), "is none or present in 2 readings"),
    Case("hypertension:B2-sys", 1, rows("bp_sys", 185, 185, every=300),
         "Systolic blood pressure 185 mmHg, limit 180 mmHg (high)",
         rows("bp_sys", 175, 175, start=600), "is 175 mmHg or less in 2 readings"),
    Case("hypertension:B2-dia", 1, rows("bp_dia", 125, 125, every=300),
         "Diastolic blood pressure 125 mmHg, limit 120 mmHg (high)",
         rows("bp_dia", 115, 115, start=600), "is 115 mmHg or less in 2 readings"),
    Case("hypertension:B4-amber", 2, rows("bp_sys", 85, 85), "Systolic blood pressure 85 mmHg, limit 90 mmHg (low)",
         rows("bp_sys", 95, 95, start=600), "is 95 mmHg or more in 2 readings"),
    Case("hypertension:B4-red", 1, rows("bp_sys", 75, 75), "Systolic blood pressure 75 mmHg, limit 80 mmHg (low)",
         rows("bp_sys", 85, 85, start=600), "is 85 mmHg or more in 2 readings"),
    Case("copd:P1-red", 1, rows("spo2", 90, 90, every=300), "Oxygen saturation 90 %, limit 91 % (low)",
         rows("spo2", 93, 93, start=600), "is 93 % or more in 2 readings"),
    Case("copd:P1-amber", 2, rows("spo2", 86, 86, every=300), "Oxygen saturation 86 %, limit 87 % (low)",
         rows("spo2", 89, 89, start=600), "is 89 % or more in 2 readings", ON_TARGET),
    Case("copd:P1-red-target", 1, rows("spo2", 82, 82, every=300), "Oxygen saturation 82 %, limit 83 % (low)",
         rows("spo2", 85, 85, start=600), "is 85 % or more in 2 readings", ON_TARGET),
    Case("copd:P3", 3, rows("spo2", 95, 95), "Oxygen saturation 95 %, limit 92 % (high)",
         rows("spo2", 90, 90, start=600), "is 90 % or less in 2 readings", ON_TARGET),
    Case("copd:P3-high", 2, rows("spo2", 97, 97), "Oxygen saturation 97 %, limit 97 % (high)",
         rows("spo2", 95, 95, start=600), "is 95 % or less in 2 readings", ON_TARGET),
    Case("copd:P5-rr", 2, rows("resp_rate", 26, 26), "Respiratory rate 26 /min, limit 25 /min (high)",
         rows("resp_rate", 23, 23, start=600), "is 23 /min or less in 2 readings"),
    Case("post_surgical:S1", 2, rows("temp", 38.2, 38.2, every=3600), "Body temperature 38.2 °C, limit 38 °C (high)",
         rows("temp", 37.7, 37.7, start=7200), "is 37.7 °C or less in 2 readings"),
    Case("post_surgical:S1-once", 2, rows("temp", 38.6), "Body temperature 38.6 °C, limit 38.5 °C (high)",
         rows("temp", 38.2, 38.2, start=600), "is 38.2 °C or less in 2 readings"),
    Case("post_surgical:S2-high", 1, rows("temp", 39.1), "Body temperature 39.1 °C, limit 39.1 °C (high)",
         rows("temp", 38.8, 38.8, start=600), "is 38.8 °C or less in 2 readings"),
    Case("post_surgical:S2-low", 1, rows("temp", 34.9), "Body temperature 34.9 °C, limit 35 °C (low)",
         rows("temp", 35.3, 35.3, start=600), "is 35.3 °C or more in 2 readings"),
    Case("post_surgical:S5", 2, rows("spo2", 93, 93, every=300), "Oxygen saturation 93 %, limit 93 % (low)",
         rows("spo2", 95, 95, start=600), "is 95 % or more in 2 readings"),
    Case("post_surgical:S5-red", 1, rows("spo2", 91, 91, every=300), "Oxygen saturation 91 %, limit 91 % (low)",
         rows("spo2", 93, 93, start=600), "is 93 % or more in 2 readings"),
    Case("post_surgical:S6", 1, rows("bp_sys", 90, 90), "Systolic blood pressure 90 mmHg, limit 90 mmHg (low)",
         rows("bp_sys", 95, 95, start=600), "is 95 mmHg or more in 2 readings"),
    Case("post_surgical:S6-amber", 2, rows("bp_sys", 100, 100),
         "Systolic blood pressure 100 mmHg, limit 100 mmHg (low)",
         rows("bp_sys", 105, 105, start=600), "is 105 mmHg or more in 2 readings"),
    Case("post_surgical:S7-pain", 2, rows("pain", 8), "Pain (0 to 10) 8.0, limit 8 (high)",
         rows("pain", 7, 7, start=600), "is below 8 in 2 readings"),
    Case("post_surgical:S7", 2, rows("symptoms", 1), "Symptoms reported present, limit present (high)",
         rows("symptoms", 0, 0, start=600), "is none in 2 readings"),
    Case("rhythm:R4-af", 2, rows("ecg_rhythm", 2, 2), "ECG rhythm tachy, limit tachy (high)",
         rows("ecg_rhythm", 1, 1, start=600), "is sinus or af in 2 readings", KNOWN_AF),
    Case("rhythm:R4", 2, rows("ecg_rhythm", 1, 1), "ECG rhythm af, limit af (high)",
         rows("ecg_rhythm", 0, 0, start=600), "is sinus in 2 readings"),
]  # fmt: skip


def pulse(rule: str, severity: int, value: float, line: str, back: float, ends: str) -> list[Case]:
    """A rule of heart_failure on each pulse."""
    return [
        Case(f"heart_failure:{rule}{also}", severity, rows(vital, value, value), f"{name} {value:g} /min, limit {line}",
             rows(vital, back, back, start=600), f"is {ends} in 2 readings")
        for also, vital, name in PULSES
    ]  # fmt: skip


PULSES = (("", "heart_rate", "Heart rate"), ("@pulse_rate", "pulse_rate", "Pulse rate (oximeter)"),
          ("@pulse_rate_nibp", "pulse_rate_nibp", "Pulse rate (cuff)"),
          ("@pulse_rate_art", "pulse_rate_art", "Pulse rate (arterial line)"))  # fmt: skip


def rhythm(
    rule: str, severity: int, value: float, line: str, back: float, ends: str, seconds: int, *,
    start: float = 0, apart_s: float = 60, once: bool = False, back_s: int = 60, context: dict[str, Any] | None = None,
) -> list[Case]:  # fmt: skip
    """A rule of rhythm on each pulse: a monitor measures all the time, a cuff now and then."""
    cases = []
    for also, vital, name in PULSES:
        text = f"{name} {value:g} /min, limit {line}"
        if vital == "pulse_rate_nibp":
            begin = rows(vital, *[value] * (1 if once else 2), start=start, every=apart_s)
            end, resolves = rows(vital, back, back, start=start + 3600), f"is {ends} in 2 readings"
        else:
            begin = beats(vital, value, seconds, start)
            end, resolves = beats(vital, back, back_s, start + 3600), f"is {ends} for 60 s"
        cases.append(Case(f"rhythm:{rule}{also}", severity, begin, text, end, resolves, context or {}))
    return cases


PULSE = [
    *pulse("H5-low", 1, 38, "40 /min (low)", 45, "45 /min or more"),
    *pulse("H5-high", 1, 115, "110 /min (high)", 105, "105 /min or less"),
    *rhythm("R1", 1, 135, "131 /min (high)", 126, "126 /min or less", 120, apart_s=120),
    *rhythm("R2", 2, 115, "111 /min (high)", 106, "106 /min or less", 600, apart_s=600),
    *rhythm("R3-red", 1, 38, "40 /min (low)", 45, "45 /min or more", 60),
    *rhythm("R3", 3, 48, "50 /min (low)", 55, "55 /min or more", 60, start=day(0, 10)),
    *rhythm("R5", 2, 115, "110 /min (high)", 105, "105 /min or less", 600, once=True, context=KNOWN_AF),
]
DERIVED = [
    Case("diabetes:D3", 2, cgm(105, 97, 89, 81, 73),
         "Interstitial glucose (CGM) 73 mg/dL, expected at 41 mg/dL in 20 min, limit 55 mg/dL (low)",
         cgm(90, 100, start=1500), "will be 70 mg/dL or more in 20 min for 60 s"),
    Case("diabetes:D3-high", 3, cgm(170, 185, 200, 215, 230),
         "Interstitial glucose (CGM) 230 mg/dL, expected at 290 mg/dL in 20 min, limit 250 mg/dL (high)",
         cgm(220, 205, 200, start=1500), "will be 230 mg/dL or less in 20 min for 60 s"),
    Case("diabetes:D8", 2, cgm(250, 230, 210, 190),
         "Interstitial glucose (CGM) 190 mg/dL, falls by 4 mg/dL a minute, limit -3 mg/dL a minute (low)",
         cgm(190, 190, 190, start=1200), "falls by 2 mg/dL or less a minute for 60 s"),
    Case("diabetes:D6-54", 3, lows(50, 90),
         "Interstitial glucose (CGM) under 54 mg/dL in 1.1 % of the readings of 14 days, limit 1 % (high)",
         cgm(*[100] * 277, start=2823 * 300), "below 54 mg/dL is 1 % or less"),
    Case("diabetes:D6-70", 3, lows(65, 20),
         "Interstitial glucose (CGM) under 70 mg/dL in 4.99 % of the readings of 14 days, limit 4 % (high)",
         cgm(*[100] * 702, start=2823 * 300), "below 70 mg/dL is 4 % or less"),
    Case("diabetes:D6-63", 3, lows(60, 20),
         "Interstitial glucose (CGM) under 63 mg/dL in 4.99 % of the readings of 14 days, limit 4 % (high)",
         cgm(*[100] * 702, start=2823 * 300), "below 63 mg/dL is 4 % or less", PREGNANT),
    Case("heart_failure:H1", 3, daily("weight", 80, 80.95),
         "Body weight 81.0 kg, +0.95 kg in a day, limit 0.91 kg (high)",
         daily("weight", 81, first=2), "is up by less than 0.91 kg in 1 day"),
    Case("heart_failure:H2", 2, daily("weight", 80, 81.4),
         "Body weight 81.4 kg, +1.4 kg in a day, limit 1.36 kg (high)",
         daily("weight", 81.4, first=2), "is up by less than 1.36 kg in 1 day"),
    Case("heart_failure:H3", 2, daily("weight", 80, 80.4, 80.8, 81.2, 81.6, 81.9, 82.1, 82.3),
         "Body weight 82.3 kg, +2.3 kg in 7 days, limit 2.27 kg (high)",
         daily("weight", 82.3, first=8), "is up by less than 2.27 kg in 7 days"),
    Case("heart_failure:H3-days", 2, daily("weight", 80, 80.7, 81.4, 82.1),
         "Body weight 82.1 kg, +2.1 kg in 3 days, limit 2 kg (high)",
         daily("weight", 82.1, first=4), "is up by 2 kg or less in 3 days"),
    Case("heart_failure:H3-drift", 2, daily("weight", *(80 + 0.2 * day for day in range(14)), 83.1),
         "Body weight 83.1 kg, +3.1 kg in 14 days, limit 3 kg (high)",
         daily("weight", 82, first=15), "is up by less than 3 kg in 14 days"),
    Case("heart_failure:H3-loss", 3, daily("weight", 82.3, 81.9, 81.5, 81.1, 80.7, 80.4, 80.2, 80),
         "Body weight 80.0 kg, -2.3 kg in 7 days, limit -2.27 kg (low)",
         daily("weight", 80, first=8), "is down by less than 2.27 kg in 7 days"),
    Case("hypertension:B3-sys", 3, bp_days("bp_sys", 140),
         "Systolic blood pressure, mean of 7 days 140 mmHg, limit 135 mmHg (high)",
         rows("bp_sys", 110, 110, 110, start=day(4)), "on average below 135 mmHg"),
    Case("hypertension:B3-dia", 3, bp_days("bp_dia", 90),
         "Diastolic blood pressure, mean of 7 days 90 mmHg, limit 85 mmHg (high)",
         rows("bp_dia", 70, 70, 70, 70, 70, start=day(4)), "on average below 85 mmHg"),
    Case("copd:P2", 2,
         [*(row for hour in (8, 12, 18) for row in daily("spo2", *[97] * 8, hour=hour)),
          *rows("spo2", 92, 92, start=day(8, 8))],
         "Oxygen saturation 92 %, usual at this hour 97 %, limit -4 points (low)",
         rows("spo2", 95, 95, start=day(8, 9)), "is 2 points or less below the usual one at this hour in 2 readings"),
    *(Case(f"copd:P4-{vital}", 3, daily(vital, 3, 3.1, 2.9, 3, 3.1, 2.9, 3, 2.5),
           f"{name} 2.5 L, 6.12 SD below the mean of 7 days, limit -1.645 SD (low)",
           daily(vital, 3, first=8), "is 1.645 SD or less below the mean of the 7 days before")
      for vital, name in (("fvc", "Forced vital capacity"), ("fev1", "Forced expiratory volume in 1 s"))),
    *(Case(f"copd:P4-{vital}-again", 2, daily(vital, 3, 3.1, 2.9, 3, 3.1, 2.9, 3, 2.5, 2.4),
           f"{name} 2.4 L, 2.57 SD below the mean of 7 days, limit -1.645 SD (low)",
           daily(vital, 3, first=9), "is 1.645 SD or less below the mean of the 7 days before")
      for vital, name in (("fvc", "Forced vital capacity"), ("fev1", "Forced expiratory volume in 1 s"))),
    *(Case(f"copd:P5-hr{also}", 2, [*daily(vital, *[60] * 8, hour=23), *rows(vital, 80, 80, start=day(8, 23))],
           f"{name} 80 /min, 1.33 times what is usual at this hour, limit 1.3 times (high)",
           rows(vital, 78, 78, start=day(8, 23.5)), "is 1.3 times or less the usual one at this hour in 2 readings")
      for also, vital, name in PULSES[:2]),
    Case("copd:P6", 3, daily("rescue_inhaler", *[1] * 8, 3, hour=20),
         "Rescue inhaler uses a day 3.0 uses/d, usual at this hour 1.0 uses/d, limit 2 uses/d (high)",
         daily("rescue_inhaler", 2, 2, first=9, hour=20),
         "is less than 2 uses/d above the usual one at this hour in 2 readings"),
    Case("copd:P6-symptoms", 3, daily("symptoms", 0, 1), "Symptoms reported present, +1 in a day, limit 1 (high)",
         daily("symptoms", 1, first=2), "is up by less than 1 in 1 day"),
    Case("post_surgical:S3-red", 1, scored(0, resp_rate=25, heart_rate=115, spo2=93),
         "NEWS2 score 7, limit 7 (high): NEWS2 7, high risk: immediate contact and the local emergency pathway; "
         "3 points alone: respiratory rate",
         [*scored(600), *scored(1200)], "is 6 or less in 2 readings"),
    Case("post_surgical:S3", 2, scored(0, temp=39.2, heart_rate=115, spo2=95),
         "NEWS2 score 5, limit 5 (high): NEWS2 5, medium risk: phone contact within the hour",
         [*scored(600), *scored(1200)], "is 4 or less in 2 readings"),
    Case("post_surgical:S3-any", 2, scored(0, resp_rate=25),
         "NEWS2 parameters with 3 points 1, limit 1 (high): NEWS2 3, low-medium risk: urgent review by the medical "
         "team; 3 points alone: respiratory rate",
         [*scored(600), *scored(1200)], "is 0 or less in 2 readings"),
]  # fmt: skip
PRESENT = "Symptoms reported present, limit present (high)"


def with_symptoms(
    rule: str, severity: int, vital: str, value: float, part: str, back: float, *, every: float = 60
) -> Case:
    """Two readings, symptoms, and two readings that are back."""
    protocol, _, name = rule.partition(":")
    title = next(one.title for one in SHIPPED[protocol].rules if one.id == name.partition("@")[0])
    named = f"{title}{part[: part.index('|')]}" if "|" in part else title
    begin = [*rows(vital, value, value, every=every), (every + 60, "symptoms", 1)]
    return Case(rule, severity, begin, f"{named}: {part.partition('|')[2] or part}; {PRESENT}",
                rows(vital, back, back, start=900), f"one part is over of: {named}.")  # fmt: skip


COMBINED = [
    Case("heart_failure:H1-symptoms", 2, [*daily("weight", 80, 80.95), (day(1, 7.5), "symptoms", 1)],
         "Weight up by 0.91 kg (2 lb) since the day before, with symptoms: "
         f"Body weight 81.0 kg, +0.95 kg in a day, limit 0.91 kg (high); {PRESENT}",
         daily("weight", 80.2, first=1, hour=8), "one part is over of: Weight up by 0.91 kg"),
    with_symptoms("heart_failure:H4-low-symptoms", 1, "bp_sys", 85,
                  "Systolic blood pressure 85 mmHg, limit 90 mmHg (low)", 95),
    with_symptoms("heart_failure:H4-high-symptoms", 1, "bp_sys", 165,
                  "Systolic blood pressure 165 mmHg, limit 160 mmHg (high)", 155),
    with_symptoms("hypertension:B1-sys", 1, "bp_sys", 185, "Systolic blood pressure 185 mmHg, limit 180 mmHg (high)",
                  175, every=300),
    with_symptoms("hypertension:B1-dia", 1, "bp_dia", 125, "Diastolic blood pressure 125 mmHg, limit 120 mmHg (high)",
                  115, every=300),
    with_symptoms("hypertension:B4-symptoms", 1, "bp_sys", 85, "Systolic blood pressure 85 mmHg, limit 90 mmHg (low)",
                  95),
    *(with_symptoms(f"heart_failure:H5-low-symptoms{also}", 1, vital, 45,
                    f"{f' ({name})' if also else ''}|{name} 45 /min, limit 50 /min (low)", 55)
      for also, vital, name in PULSES),
    *(with_symptoms(f"heart_failure:H5-high-symptoms{also}", 1, vital, 105,
                    f"{f' ({name})' if also else ''}|{name} 105 /min, limit 100 /min (high)", 95)
      for also, vital, name in PULSES),
    *(Case(f"post_surgical:S4{also}", 1, [*rows(vital, 115, 115, every=600), (660, "resp_rate", 22)],
           f"Heart rate 111 /min or more for 10 minutes and respiratory rate 21 /min or more"
           f"{f' ({name})' if also else ''}: {name} 115 /min, limit 111 /min (high); "
           "Respiratory rate 22 /min, limit 21 /min (high)",
           rows(vital, 106, 106, start=900), "one part is over of: Heart rate 111 /min or more")
      for also, vital, name in PULSES),
]  # fmt: skip
OTHER_METHODS = {
    "bp_sys": ("bp_art_sys", "Systolic blood pressure", "Systolic pressure (arterial line)"),
    "bp_dia": ("bp_art_dia", "Diastolic blood pressure", "Diastolic pressure (arterial line)"),
    "resp_rate": ("resp_rate_vent", "Respiratory rate", "Respiratory rate (ventilator)"),
}


def by_other_method(case: Case, *, combined: bool) -> Iterator[Case]:
    """The same case on the vital sign of another method, if the rule is also on one."""
    first = case.begin[0][1]
    if first not in OTHER_METHODS:
        return
    vital, name, other = OTHER_METHODS[first]
    begin, end = ([(at_s, vital if key == first else key, value) for at_s, key, value in part]
                  for part in (case.begin, case.end))  # fmt: skip
    title, colon, rest = case.text.partition(": ") if combined else ("", "", case.text)
    text = f"{title} ({other}){colon}{rest}" if combined else rest
    resolves = f"{case.resolves.rstrip('.')} ({other})." if combined else case.resolves
    text = text.replace(f"{name} ", f"{other} ")
    yield Case(f"{case.rule}@{vital}", case.severity, begin, text, end, resolves, case.context)


OTHERS = [
    *(one for case in LIMITED for one in by_other_method(case, combined=False)),
    *(one for case in COMBINED for one in by_other_method(case, combined=True)),
]
CASES = [*LIMITED, *PULSE, *DERIVED, *COMBINED, *OTHERS]
SILENT = [("diabetes:D7", CGM, 3600), ("diabetes:D7-long", CGM, 21_600), ("heart_failure:H8", "weight", 172_800)]


def _play(ward: Enrolled, script: list[Row]) -> None:
    """Long scripts are of one vital, without ticks."""
    if len(script) > 100:
        ward.feed_at_once(script)
    else:
        ward.feed(script)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_is_raised_by_what_it_says_and_ended_by_what_it_says(case: Case) -> None:
    ward = Enrolled(document(case.rule.partition(":")[0]), **case.context)
    _play(ward, case.begin[:-1])
    assert of_rule(ward.said, case.rule) == [], "not before the last of them"
    asked = of_rule(ward.said, f"{case.rule}:confirm")
    (event,) = of_rule(ward.feed(case.begin[-1:]), case.rule)
    kind, remark = ("worsened", ": a second reading confirms it") if asked else ("raised", "")
    assert (event.kind, event.severity, event.rule_version) == (kind, case.severity, 1)
    assert event.text == case.text + remark
    assert case.resolves.rstrip(".") in event.resolves
    assert event.values
    _play(ward, case.end[:-1])
    assert not {"returned", "resolved"} & set(steps(ward.said, case.rule)), "nor ended before all of it"
    assert steps(ward.feed(case.end[-1:]), case.rule)[-1] == ("returned" if case.severity == 1 else "resolved")


@pytest.mark.parametrize(("rule", "vital", "seconds"), SILENT)
def test_a_silence_is_raised_after_its_time_and_ended_by_a_reading(rule: str, vital: str, seconds: int) -> None:
    ward = Enrolled(document(rule.partition(":")[0]))
    ward.tick(0)
    ward.wait(0, seconds - 1)
    assert of_rule(ward.said, rule) == []
    (event,) = of_rule(ward.tick(seconds), rule)
    assert (event.kind, event.severity, event.rule_version) == ("raised", 3, 1)
    assert event.text == next(one.title for one in SHIPPED[rule.partition(":")[0]].rules
                              if one.id == rule.partition(":")[2])  # fmt: skip
    assert event.resolves == "readings come again"
    assert steps(ward.read(seconds + 10, 100.0, vital=vital), rule) == ["resolved"]


def test_every_shipped_rule_is_driven() -> None:
    watched = set()
    usual = PatientContext("adult", "no", "no", 1, "no")
    for context in (usual, PatientContext("adult", "no", "yes", 2, "yes"), usual._replace(**PREGNANT),
                    usual._replace(**AFTER_BIRTH)):  # fmt: skip
        compiled = compile_protocols(adopted(*SHIPPED.values()), context)
        assert not compiled.troubles
        watched |= {rule.face.name for rule in (*compiled.rules, *compiled.silences)}
    assert watched == {case.rule for case in CASES} | {rule for rule, _, _ in SILENT}


def test_an_enrolment_alone_raises_nothing() -> None:
    for name in SHIPPED:
        ward: Ward = Enrolled(document(name))
        ward.tick(0)
        ward.tick(20)
        assert ward.said == []
