"""What a nurse reads of a rule, and of what a new version changes."""

from typing import Any

import pytest

from alerts.rules.protocol import MonitoringProtocol, document, parse_protocol
from alerts.rules.words import difference, resolves_words, rule_words, span
from tests.alerts.protocol_world import (
    BOTH,
    FALL,
    LOW,
    MEMBERS,
    RATE,
    SCORE,
    SHIPPED,
    SILENT,
    STUCK,
    USUAL,
    WEIGHT,
    compiled,
    only,
    parsed,
)

BATTERY = {"id": "T1", "type": "technical", "title": "Battery", "severity": "T", "trouble": "battery"}
SHARE = {
    **WEIGHT, "vital": "glucose_isf", "unit": "mg/dL", "measure": "share_below", "under": 54, "days": 14,
    "readings": 2823,
}  # fmt: skip


def told(rule: dict[str, Any], mode: str | None = None, **changes: Any) -> str:
    changed = {key: value for key, value in {**rule, **changes}.items() if value is not None}
    return rule_words(parsed(changed).rules[0], {changed["vital"]: mode} if mode else {})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(50, "50 s"), (60, "60 s"), (90, "90 s"), (120, "2 min"), (900, "15 min"), (3600, "1 h"), (5400, "90 min"),
     (86400, "1 day"), (172800, "2 days"), (0.5, "0.5 s")],
)  # fmt: skip
def test_a_time_is_told_in_its_largest_whole_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            told(LOW), "Raised when oxygen saturation is 90 % or less in 2 readings at least 60 s apart; "
            "ends when it is "
            "92 % or more in 2 readings.",
        ),
        (
            told(LOW, "continuous", continuous={"for_s": 50, "median_of": 5}, from_min=420, to_min=1320),
            "Raised when oxygen saturation is 90 % or less for 50 s (median of 5 readings) between 07:00 "
            "and 22:00; ends "
            "when it is 92 % or more for 60 s.",
        ),
        (
            told(LOW, at_or_below=None, above=99, deadband=0, requires={"oxygen": "yes", "spo2_scale": 2},
                 unless={"known_af": "yes"}, spot={"readings": 1, "clear_readings": 1}),
            "Raised when oxygen saturation is above 99 %; ends when it is 99 % or less; only where the patient gets "
            "oxygen and the patient has a saturation target of 88 to 92 %; not where the patient has known atrial "
            "fibrillation.",
        ),
        (
            told(LOW, at_or_below=None, at_or_above=99, deadband=0, spot={"readings": 1, "clear_readings": 1}),
            "Raised when oxygen saturation is 99 % or more; ends when it is below 99 %.",
        ),
        (
            told(LOW, deadband=0, spot={"readings": 1, "clear_readings": 1}),
            "Raised when oxygen saturation is 90 % or less; ends when it is above 90 %.",
        ),
        (
            told(LOW, vital="symptoms", unit="{code}", at_or_below=None, at_or_above=1),
            "Raised when symptoms reported is present or alarming; ends when it is none in 2 readings.",
        ),
        (
            told(LOW, vital="acvpu", unit="{code}", at_or_below=None, above=0),
            "Raised when level of responsiveness is C, V, P or U; ends when it is A in 2 readings.",
        ),
        (
            told(LOW, vital="symptoms", unit="{code}", at_or_below=None, above=2),
            "Raised when symptoms reported is nothing; ends when it is none, present or alarming in 2 readings.",
        ),
        (
            told(LOW, vital="symptoms", unit="{code}", at_or_below=None, below=1),
            "Raised when symptoms reported is none; ends when it is present or alarming in 2 readings.",
        ),
        (
            told(RATE), "Raised when interstitial glucose (CGM) falls by more than 0.2 mmol/L a minute over 20 min; "
            "ends when it falls "
            "by 0.1 mmol/L or less a minute for 60 s.",
        ),
        (
            told(RATE, below=None, clear=None, at_or_above=0.2),
            "Raised when interstitial glucose (CGM) rises by 0.2 mmol/L or more a minute over 20 min; ends when it "
            "rises by less than "
            "0.2 mmol/L a minute for 60 s.",
        ),
        (
            told(RATE, below=0.1, clear=0.2),
            "Raised when interstitial glucose (CGM) changes by below 0.1 mmol/L a minute over 20 min; ends when "
            "interstitial glucose "
            "(CGM) changes by 0.2 mmol/L or more a minute for 60 s.",
        ),
        (
            told(FALL), "Raised when interstitial glucose (CGM) will be 3 mmol/L or less in 20 min (while "
            "it is below 5.5 "
            "mmol/L and falls by more than 0.1 mmol/L a minute over 20 min); ends when it will be above 3 mmol/L in 20 "
            "min for 60 s.",
        ),
        (
            told(USUAL), "Raised when oxygen saturation is 4 points or more below the usual one at this "
            "hour in 2 readings "
            "at least 60 s apart; ends when it is less than 4 points below the usual one at this hour in 2 readings.",
        ),
        (
            told(USUAL, vital="pain", unit=None, measure="ratio", at_or_below=None, above=1.3),
            "Raised when pain (0 to 10) is above 1.3 times the usual one at this hour; ends when it is 1.3 "
            "times or less "
            "the usual one at this hour in 2 readings.",
        ),
        (
            told(USUAL, vital="pain", unit=None, measure="robust_z", at_or_below=None, above=3.5, least_spread=2),
            "Raised when pain (0 to 10) is more than 3.5 SD above the usual one at this hour (of which one is at "
            "least 2); ends when it "
            "is 3.5 SD or "
            "less above the usual one at this hour in 2 readings.",
        ),
        (
            told(WEIGHT, days=7), "Raised when body weight is up by 1 kg or more in 7 days; ends when it is "
            "up by less than "
            "1 kg in 7 days.",
        ),
        (
            told(WEIGHT, unit="[lb_av]", at_or_above=None, at_or_below=-5, clear=-4),
            "Raised when body weight is down by 5 lb or more in 1 day; ends when it is down by 4 lb or less in 1 day.",
        ),
        (
            told(WEIGHT, measure="mean", days=7, readings=12, on_days=3),
            "Raised when body weight over 7 days without the first is on average 1 kg or more (at least 12 "
            "readings on 3 "
            "days); ends when body weight over 7 days without the first is on average below 1 kg.",
        ),
        (
            told(WEIGHT, measure="below_mean_sd", unit=None, days=7, at_or_above=None, below=-1.645),
            "Raised when body weight is more than 1.645 SD below the mean of the 7 days before; ends when "
            "it is 1.645 SD or "
            "less below the mean of the 7 days before.",
        ),
        (
            told(WEIGHT, measure="fraction", unit=None, at_or_above=None, below=0.3),
            "Raised when body weight of yesterday is below 30 % of that of the first day on record; ends "
            "when body weight "
            "of yesterday is 30 % or more of that of the first day on record.",
        ),
        (
            told(SHARE), "Raised when the part of the readings of 14 days in which interstitial glucose "
            "(CGM) is below 54 "
            "mg/dL is 1 % or more (at least 2823 readings); ends when the part of the readings of 14 days in which "
            "interstitial glucose (CGM) is below 54 mg/dL is below 1 %.",
        ),
        (told(SCORE), "Raised when NEWS2 score is 5 or more; ends when it is 4 or less in 2 readings."),
        (told(SILENT), "Raised when there is no oxygen saturation for 10 min; ends when a reading comes."),
        (told(STUCK), "Raised when oxygen saturation has not changed at all for 1 h; ends when it changes."),
        (
            told(STUCK, trouble="sensor_fault", after_s=300),
            "Raised when oxygen saturation is implausible, or its sensor reports a fault, for 5 min; ends when it is "
            "measured without a fault.",
        ),
        (told(BATTERY), "Raised when the battery of a device is low; ends when the device says so."),
        (
            told(BATTERY, trouble="gateway", after_s=600),
            "Raised when a device is offline for 10 min; ends when the device says so.",
        ),
        (
            told(BOTH), "Raised when systolic blood pressure is below 90 mmHg in 2 readings at least 60 s apart, and "
            "symptoms reported is present or alarming, within 10 min of each other; a reading "
            "that is not repeated in 15 min becomes S1; ends when one of them is over.",
        ),
    ],
)  # fmt: skip
def test_a_rule_is_one_sentence(words: str, sentence: str) -> None:
    assert words == sentence


def test_every_shipped_rule_can_be_told_in_either_mode() -> None:
    for protocol in SHIPPED.values():
        for rule in protocol.rules:
            for measures in ({}, dict.fromkeys(("spo2", "heart_rate", "bp_sys", "glucose_isf"), "continuous")):
                words = rule_words(rule, measures)
                assert words.startswith("Raised when ")
                assert "{" not in words
                assert "None" not in words


@pytest.mark.parametrize(
    ("rule", "measures", "words"),
    [
        (LOW, {"spo2": "continuous"}, "oxygen saturation is 92 % or more for 60 s"),
        (LOW, {}, "oxygen saturation is 92 % or more in 2 readings"),
        (STUCK | {"severity": "S1"}, {}, "oxygen saturation changes, and a person has acknowledged it"),
        (BOTH, {}, "one part is over of: Both, and a person has acknowledged it"),
        (STUCK, {}, "oxygen saturation changes"),
        ({**STUCK, "trouble": "sensor_fault"}, {}, "oxygen saturation is measured without a fault"),
    ],
)
def test_an_alert_says_what_ends_it(rule: dict[str, Any], measures: dict[str, str], words: str) -> None:
    found = only(compiled(rule, measures=measures))
    assert resolves_words(found.spec, found.face) == words


def changed(base: MonitoringProtocol, rule: str, **changes: Any) -> MonitoringProtocol:
    new = document(base)
    for one in new["rules"]:
        if one["id"] == rule:
            one.update(changes)
            for key in [key for key, value in one.items() if value is None]:
                del one[key]
    return parse_protocol(new)


COPD = SHIPPED["copd"]


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (COPD, []),
        (changed(COPD, "P1-red", at_or_below=88), ["P1-red: raised at 88 % or below (was 91 %)"]),
        (
            changed(COPD, "P1-red", at_or_below=88, clear=95),
            ["P1-red: raised at 88 % or below (was 91 %)",
             "P1-red: ends when it is 95 % or more in 2 readings (was when it is 93 % or more in 2 readings)"],
        ),
        (
            changed(COPD, "P1-red", at_or_below=None, below=88),
            ["P1-red: raised when oxygen saturation is below 88 % (was when oxygen saturation is 91 % or less)"],
        ),
        (changed(COPD, "P3", above=94), ["P3: raised above 94 % (was 92 %)"]),
        (changed(COPD, "P5-rr", at_or_above=30), ["P5-rr: raised at 30 /min or above (was 25 /min)"]),
        (
            changed(COPD, "P1-red", severity="S2", extreme=None),
            ["P1-red: severity S2 (was S1)", "P1-red: at once: nothing (was 85 % or less)",
             "P1-red: without a repeat: nothing (was a reading that is not repeated in 15 min becomes S1 at 87 % or "
             "less, else S2)", "P1-red: role: nurse (was clinician)", "P1-red: may wait 1 h (was 5 min)",
             "P1-red: measured again after 1 h (was 15 min)"],
        ),
        (
            changed(COPD, "P1-red", spot={"readings": 3, "apart_s": 300}),
            ["P1-red: raised in 3 readings at least 5 min apart (was in 2 readings at least 5 min apart)"],
        ),
        (
            changed(COPD, "P1-red", spot={"readings": 1}),
            ["P1-red: raised at once (was in 2 readings at least 5 min apart)",
             "P1-red: without a repeat: nothing (was a reading that is not repeated in 15 min becomes S1 at 87 % or "
             "less, else S2)"],
        ),
        (
            changed(COPD, "P1-red", continuous={"for_s": 60, "clear_s": 30}),
            ["P1-red: measured continuously: raised for 60 s (was for 50 s (median of 5 readings))",
             "P1-red: measured continuously: ends when it is 93 % or more for 30 s (was when it is 93 % or "
             "more for 60 s)"],
        ),
        (
            changed(COPD, "P1-red", unless={"spo2_scale": 2, "oxygen": "yes"}, title="Low", advice="Call",
                    cause="lungs"),
            ["P1-red: for whom: not where the patient gets oxygen or the patient has a saturation target of 88 to 92 % "
             "(was not where the patient has a saturation target of 88 to 92 %)",
             "P1-red: title: Low (was Oxygen saturation 91 % or less)",
             "P1-red: incident: lungs (was oxygenation)", "P1-red: advice: Call (was nothing)"],
        ),
        (
            changed(COPD, "P2", at_or_below=-5),
            ["P2: raised when oxygen saturation is 5 points or more below the usual one at this hour (was when oxygen "
             "saturation is 4 points or more below the usual one at this hour)"],
        ),
        (changed(COPD, "P5-hr", also_on=None), ["P5-hr: also on nothing (was pulse rate (oximeter))"]),
        (
            changed(COPD, "P6", type="silence", after_s=86400, unit=None, measure=None, at_or_above=None),
            ["P6: raised when there is no rescue inhaler uses a day for 1 day (was when rescue inhaler uses a day is 2 "
             "uses/d or more above the usual one at this hour)",
             "P6: ends when a reading comes (was when rescue inhaler uses a day is less than 2 uses/d above "
             "the usual one "
             "at this hour in 2 readings)", "P6: incident: monitoring (was symptoms)"],
        ),
    ],
)  # fmt: skip
def test_a_new_version_is_told_rule_by_rule(new: MonitoringProtocol, lines: list[str]) -> None:
    assert difference(COPD, new) == lines


def test_added_and_removed_rules_are_told() -> None:
    assert difference(parsed(LOW), parsed(SILENT)) == [
        "A7: added. Raised when there is no oxygen saturation for 10 min; ends when a reading comes.",
        "A1: removed (Low saturation)",
    ]


def test_changed_parts_of_a_combination_are_told() -> None:
    new = parsed({**BOTH, "members": [{**MEMBERS[0], "below": 95, "clear": 110}, MEMBERS[1]]})
    raised, ended, *_ = difference(parsed(BOTH), new)
    assert "is below 95 mmHg" in raised
    assert "110 mmHg or more in 2 readings" in ended


def test_what_the_document_says_of_all_rules_is_told() -> None:
    old = parsed(LOW, advice="Call")
    new = parsed(LOW, advice="", measures={"spo2": "continuous"}, score={"assume_air": True}, disclaimer="No device")
    assert difference(old, new) == [
        "oxygen saturation measured: continuous (was spot)",
        "scores: air is assumed",
        "advice: nothing (was Call)",
        "disclaimer: No device (was nothing)",
        "A1: raised for 30 s (was in 2 readings at least 60 s apart)",
        "A1: ends when it is 92 % or more for 60 s (was when it is 92 % or more in 2 readings)",
    ]
    assert "scores: air is not assumed any more" in difference(new, old)


def test_what_a_protocol_refuses_and_excuses_is_part_of_what_changes() -> None:
    refuses = [{"when": {"mechanical_support": "yes", "oxygen": "yes"}, "reason": "another programme"}]
    only_where = [{"vital": "news2", "side": "high", "unless": {"pregnancy": "yes"}, "reason": "not in pregnancy"},
                  {"vital": "spo2", "side": "low", "requires": {"oxygen": "yes"}, "reason": "why"}]  # fmt: skip
    plain, told = parsed(LOW), parsed(LOW, refuses=refuses, only_where=only_where)
    lines = [
        "refused where the patient gets oxygen and the patient has mechanical circulatory support: another programme",
        "NEWS2 score (high) is watched, not where the patient is pregnant: not in pregnancy",
        "oxygen saturation (low) is watched, only where the patient gets oxygen: why",
    ]
    assert difference(plain, told) == lines
    assert difference(told, plain) == [f"removed: {line}" for line in lines]
    assert difference(told, told) == []
