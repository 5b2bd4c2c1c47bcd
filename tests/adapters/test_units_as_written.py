"""Units as devices, hubs and people write them: one table, read by every adapter."""

import pytest

from ingest.adapters.reading.units import MDC_UNIT_NAMES, MDC_UNITS, spellings, ucum_of, unit_of
from vitals.catalog import BY_KEY, VITALS, accepts
from vitals.units import UNIT_BY_CODE, UNITS, to_canonical

USUAL = {
    ("heart_rate", "/min"): ["/min", "1/min", "bpm", "BPM", "Bpm", "beats/min", "{beats}/min", "{beat}/min",
                             "count/min", "beats per minute", "min-1", "per min", "b/min", "bt/min",
                             "Beats per min", "x/min", "264864", "MDC_DIM_BEAT_PER_MIN"],
    ("heart_rate", "/s"): ["count/s", "1/s", "Hz"],
    ("resp_rate", "/min"): ["rpm", "RPM", "br/min", "breaths/min", "{breaths}/min", "{resp}/min", "breaths per min",
                            "per min", "264928"],
    ("spo2", "%"): ["%", "percent", "%O2", "% SpO2", "262688", "pct", "per cent"],
    ("spo2", "{fraction}"): ["1", "fraction"],
    ("fio2", "{fraction}"): ["1"],
    ("steps", "{steps}"): ["1", "count", "steps", "{steps}", "Steps"],
    ("bp_sys", "mm[Hg]"): ["mm[Hg]", "mmHg", "mm Hg", "MMHG", "MM[HG]", "mmhg", "mm\u00a0Hg", "torr", "Torr", "266016"],
    ("bp_sys", "kPa"): ["kPa", "KPA", "kpa"],
    ("temp", "Cel"): ["Cel", "cel", "CEL", "C", "c", "°C", "ºC", "˚C", "℃", "degC", "deg C", "Celsius", "celcius",
                      "centigrade", "Â°C"],
    ("temp", "[degF]"): ["[degF]", "[DEGF]", "F", "°F", "ºF", "℉", "degF", "deg F", "Fahrenheit"],
    ("temp", "K"): ["K", "kelvin"],
    ("glucose_bg", "mg/dL"): ["mg/dL", "mg/dl", "MG/DL", "MGDL", "mg / dL", "mg%", "mg %", "mgs/dl"],
    ("glucose", "mmol/L"): ["mmol/L", "mmol/l", "MMOL/L", "mmol<180.1558800000541>/L", "mmol<180.15>/l",
                           "mmol", "MMOL", "mM", "mmol/litre"],
    ("weight", "kg"): ["kg", "Kg", "KG", "kgs"],
    ("weight", "[lb_av]"): ["lb", "lbs", "LB", "[lb_av]", "pounds"],
    ("weight", "[stone_av]"): ["st", "stone", "[stone_av]"],
    ("height", "[ft_i]"): ["ft", "[ft_i]", "feet"],
    ("bmi", "kg/m2"): ["kg/m2", "kg/m²", "kg/m^2", "count"],
    ("sleep", "h"): ["h", "hr", "hours"],
    ("pef", "L/min"): ["L/min", "l/min", "LPM"],
    ("rr_interval", "ms"): ["ms", "msec"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("vital", "ucum", "text"), [(vital, ucum, text) for (vital, ucum), texts in USUAL.items() for text in texts]
)
def test_usual_spellings(vital: str, ucum: str, text: str) -> None:
    found = unit_of(BY_KEY[vital].code, text)
    assert found is not None
    assert UNIT_BY_CODE[found].ucum == ucum


@pytest.mark.parametrize(
    ("vital", "text"),
    [
        ("spo2", "mmHg"), ("spo2", ""), ("spo2", "{O2}"), ("spo2", "count"), ("heart_rate", "1"), ("heart_rate", "%"),
        ("temp", "1"), ("temp", "°"), ("temp", "mg/dL"), ("weight", "mg/dL"), ("glucose", "mmol<x>/L"),
        ("weight", "mmol"), ("height", "mM"), ("spo2", "mg%"),
        ("bp_sys", "cmH2O"), ("bp", "mm[Hg]"), ("news2", "{score}"), ("spo2", "%" * 100),
    ],
)  # fmt: skip
def test_what_names_no_unit_of_the_vital_is_not_guessed(vital: str, text: str) -> None:
    assert unit_of(BY_KEY[vital].code, text) is None


def test_every_ucum_name_synonym_and_mdc_code_is_read_in_any_case() -> None:
    for vital in VITALS:
        for unit in UNITS:
            if not accepts(vital, unit.ucum):
                continue
            for name in (unit.ucum, *unit.synonyms):
                assert name == "1" or unit_of(vital.code, name) == unit_of(vital.code, name.upper()) == unit.code
    for table in (MDC_UNITS, MDC_UNIT_NAMES):
        assert all(ucum_of(str(name)) == ucum for name, ucum in table.items())  # type: ignore[attr-defined]


def test_no_spelling_of_a_vital_means_two_units() -> None:
    for vital in VITALS:
        for word, code in spellings(vital.code).items():
            assert accepts(vital, UNIT_BY_CODE[code].ucum), (vital.key, word)


def test_a_rate_by_the_second_and_feet() -> None:
    assert to_canonical([1.2], "/s", "/min").tolist() == [72.0]
    assert to_canonical([5.5], "[ft_i]", "cm").tolist() == pytest.approx([167.64])
