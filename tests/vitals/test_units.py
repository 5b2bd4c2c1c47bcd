"""Conversions against the page, thresholds that must not tip over, spellings."""

import re
from pathlib import Path

import numpy as np
import pytest

from vitals.catalog import VITALS
from vitals.units import MMOL_L_TO_MG_DL, UNIT_BY_CODE, UNIT_BY_NAME, UNITS, convertible, from_canonical, to_canonical

PAGE = (Path(__file__).parents[2] / "docs/reference/clinical-vitals.md").read_text(encoding="utf-8")
PAIRS = sorted({(accepted, vital.unit) for vital in VITALS for accepted in (*vital.accepts, vital.unit)})

# Row of the page's table 1.2 -> units; None: arithmetic of several values, not a conversion of units.
ROWS: dict[str, tuple[str, str] | None] = {
    "mmol/L -> mg/dL glucose": ("mmol/L", "mg/dL"),
    "mg/dL -> mmol/L glucose": ("mg/dL", "mmol/L"),
    "degF -> degC": ("[degF]", "Cel"),
    "K -> degC": ("K", "Cel"),
    "lb -> kg": ("[lb_av]", "kg"),
    "stone -> kg": ("[stone_av]", "kg"),
    "inch -> cm": ("[in_i]", "cm"),
    "kPa -> mmHg": ("kPa", "mm[Hg]"),
    "L/s -> L/min": ("L/s", "L/min"),
    "BMI": None,
    "MAP from S/D (only if the device gave none)": None,
}


def table_1_2() -> dict[str, tuple[str, str]]:
    """Row -> (formula, examples) of the conversion table."""
    section = PAGE.split("### 1.2")[1].split("\n\n**Which")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return {cells[0].strip(): (cells[1].strip(), cells[2].strip()) for cells in rows}


def examples(row: str) -> list[tuple[float, float, int]]:
    """(from, to, decimals of to) of a row."""
    found = re.findall(r"([\d.]+)(?: \w+)? (?:->|=) ([\d.]+)", table_1_2()[row][1])
    assert found, row
    return [(float(source), float(target), len(target.partition(".")[2])) for source, target in found]


def convert(value: float, source: str, target: str) -> float:
    if (source, target) == ("mg/dL", "mmol/L"):
        return float(from_canonical(value, source, target))
    return float(to_canonical(value, source, target))


def accepted_units(pair: tuple[str, str]) -> tuple[str, str]:
    return UNIT_BY_NAME[pair[0]].ucum, pair[1]


def test_every_row_of_the_page_is_known() -> None:
    assert table_1_2().keys() == ROWS.keys()


@pytest.mark.parametrize(
    ("units", "source", "target", "decimals"),
    [(units, *example) for row, units in ROWS.items() if units for example in examples(row)],
)
def test_every_example_of_the_page(units: tuple[str, str], source: float, target: float, decimals: int) -> None:
    assert round(convert(source, *units), decimals) == target


@pytest.mark.parametrize(("row", "units"), [(row, units) for row, units in ROWS.items() if units])
def test_every_factor_of_the_page(row: str, units: tuple[str, str]) -> None:
    formula = table_1_2()[row][0].strip("`").split("`")[0]
    if "(F-32)" in formula:
        factor, offset = 5 / 9, -32.0
    elif "K-" in formula:
        factor, offset = 1.0, -float(formula.split("-")[1])
    else:
        number = float(re.findall(r"[*/]\s*([\d.]+)", formula)[-1])
        factor, offset = (1 / number if "/ " in formula else number), 0.0
    for value in (1.0, 17.5, 300.0):
        assert convert(value, *units) == pytest.approx((value + offset) * factor, rel=1e-9, abs=1e-8)


def test_the_derived_examples_of_the_page() -> None:
    """BMI and mean pressure are arithmetic of the page, not conversions: their numbers hold."""
    assert table_1_2()["BMI"][1] == "80, 1.75 -> 26.12"
    assert round(80 / 1.75**2, 2) == 26.12
    assert table_1_2()["MAP from S/D (only if the device gave none)"][1] == "120/80 -> 93.3"
    assert round(80 + (120 - 80) / 3, 1) == 93.3


def test_the_glucose_factor_is_the_one_of_the_page() -> None:
    assert f"Project constant: {MMOL_L_TO_MG_DL}" in PAGE


# Threshold traps


@pytest.mark.parametrize(("mmol", "rounded_mg"), [(3.0, 54), (3.9, 70), (7.8, 140), (10.0, 180), (13.9, 250)])
def test_a_value_on_a_limit_in_its_own_unit_is_on_it(mmol: float, rounded_mg: int) -> None:
    value, limit = to_canonical(mmol, "mmol/L", "mg/dL"), to_canonical(mmol, "mmol/L", "mg/dL")
    assert not value < limit
    assert not value > limit
    assert to_canonical(mmol - 0.1, "mmol/L", "mg/dL") < limit < to_canonical(mmol + 0.1, "mmol/L", "mg/dL")
    # The trap: the consensus pair in mg/dL would put the same patient on the other side.
    assert value > rounded_mg


def test_molar_decimals_of_a_meter_are_the_decimals_on_its_display() -> None:
    """Glucose profile: SFLOAT in mol/L; the meter shows mmol/L with one decimal."""
    steps = np.arange(1, 401)
    molar = np.array([float(f"{step}e-4") for step in steps])
    shown = np.array([float(f"{step / 10:.1f}") for step in steps])
    np.testing.assert_array_equal(to_canonical(molar, "mol/L", "mg/dL"), to_canonical(shown, "mmol/L", "mg/dL"))


def test_mass_concentrations_of_a_meter_are_whole_milligrams() -> None:
    """Glucose profile: SFLOAT in kg/L, 0.00096 is 96 mg/dL."""
    steps = np.arange(1, 1501)
    per_litre = np.array([float(f"{step}e-5") for step in steps])
    np.testing.assert_array_equal(to_canonical(per_litre, "kg/L", "mg/dL"), steps)


def test_fahrenheit_on_a_celsius_limit_is_on_it() -> None:
    """38.0 and 39.1 Cel are limits; a thermometer in Fahrenheit reaches them exactly."""
    celsius = np.round(np.arange(300, 450) / 10, 1)
    fahrenheit = np.round(celsius * 1.8 + 32, 2)
    np.testing.assert_array_equal(to_canonical(fahrenheit, "[degF]", "Cel"), celsius)


@pytest.mark.parametrize(("fraction", "percent"), [(0.92, 92.0), (0.57, 57.0), (0.29, 29.0), (0.07, 7.0)])
def test_fractions_become_whole_percents(fraction: float, percent: float) -> None:
    assert to_canonical(fraction, "{fraction}", "%") == percent


# All conversions of the catalogue


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}->{pair[1]}")
def test_there_and_back(pair: tuple[str, str]) -> None:
    source, target = accepted_units(pair)
    values = np.round(np.linspace(0.1, 400.0, 4000), 1)
    if source in ("mol/L", "kg/L", "{fraction}"):
        values = np.round(values * 1e-4, 7)
    np.testing.assert_array_equal(from_canonical(to_canonical(values, source, target), target, source), values)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}->{pair[1]}")
def test_conversions_rise_and_keep_nan_shape_and_type(pair: tuple[str, str]) -> None:
    source, target = accepted_units(pair)
    assert convertible(source, target)
    converted = to_canonical([[1.0, 2.0], [float("nan"), 3.0]], source, target)
    assert (converted.shape, converted.dtype) == ((2, 2), np.float64)
    assert converted[0, 0] < converted[0, 1] < converted[1, 1]
    assert np.isnan(converted).tolist() == [[False, False], [True, False]]
    assert np.isnan(from_canonical(float("nan"), target, source))


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [(90.0, "min", "h", 1.5), (27_000.0, "s", "h", 7.5), (0.8, "s", "ms", 800.0), (70_123.0, "g", "kg", 70.123),
     (1.78, "m", "cm", 178.0), (3_456.0, "mL", "L", 3.456)],
)  # fmt: skip
def test_conversions_that_the_page_has_no_row_for(value: float, source: str, target: str, expected: float) -> None:
    assert to_canonical(value, source, target) == expected
    assert from_canonical(expected, target, source) == value


@pytest.mark.parametrize(("source", "target"), [("kg", "mg/dL"), ("mg/dL", "mmol/L"), ("Cel", "[degF]"), ("?", "kg")])
def test_units_that_do_not_fit_are_refused(source: str, target: str) -> None:
    assert not convertible(source, target)
    with pytest.raises(KeyError):
        to_canonical(1.0, source, target)


@pytest.mark.parametrize(("canonical", "target"), [("mg/dL", "kg"), ("h", "kg"), ("kg", "Cel")])
def test_the_way_back_refuses_too(canonical: str, target: str) -> None:
    with pytest.raises(KeyError):
        from_canonical(1.0, canonical, target)


def test_codes_and_names_are_unique_and_codes_fit_a_byte() -> None:
    names = [name for unit in UNITS for name in (unit.ucum, *unit.synonyms)]
    assert len(set(names)) == len(names) == len(UNIT_BY_NAME)
    assert [unit.code for unit in UNITS] == list(range(len(UNITS)))
    assert set(UNIT_BY_CODE) == set(range(len(UNITS)))
    assert len(UNITS) < 256


def test_codes_on_the_wire_keep_their_meaning() -> None:
    """Append-only: stored batches refer to them. A new unit is a new line at the end."""
    assert " ".join(unit.ucum for unit in UNITS).startswith(
        "{steps} /min % {fraction} mm[Hg] kPa Cel [degF] K mg/dL mmol/L kg/L mol/L kg g [lb_av] [stone_av] cm m [in_i]"
        " kg/m2 ms s min h L/min L/s L mL {code}"
    )
