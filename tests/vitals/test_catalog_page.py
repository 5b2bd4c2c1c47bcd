"""The catalogue against docs/reference/clinical-vitals.md: both say the same, or the difference is named here."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from vitals.catalog import BY_CODE, BY_KEY, CODE_SPACE, INF, VITALS, Vital, accepts, is_urgent, table
from vitals.glossary import Mode
from vitals.times import HOUR_NS, MINUTE_NS
from vitals.units import UNIT_BY_NAME, to_canonical

PAGE = (Path(__file__).parents[2] / "docs/reference/clinical-vitals.md").read_text(encoding="utf-8")

# Where the catalogue means to say something else than the page's cell, and why.

EXTRA_LOINC = {
    # The page carries the moles series as a row of its own; the catalogue keeps one series in mg/dL.
    "glucose_bg": {"14743-9"},
    "glucose_isf": {"105272-9"},
}
OTHER_LOINC = {
    # Codes that the page mentions beside the vital's own: they belong to other vitals or to parts of this one.
    "bp_avg": {"96608-5", "96609-3"},
    "glucose_bg": {"2339-0"},
    "sleep": {"93831-6", "93830-8", "93829-0"},
    "pef": {"19935-6"},
}
EXTRA_ACCEPTED = {
    # Spellings of the same unit that devices send.
    "heart_rate": {"{beat}/min", "/s"}, "pulse_rate": {"{beat}/min", "/s"}, "pulse_rate_nibp": {"{beat}/min", "/s"},
    "resp_rate": {"/s"}, "height": {"[ft_i]"},
    # The Bluetooth glucose profile carries kg/L and mol/L (device-formats.md); moles have rows of their own here.
    "glucose_bg": {"kg/L", "mol/L"}, "glucose_isf": {"kg/L", "mol/L"}, "glucose": {"kg/L", "mol/L", "mmol/L"},
    # Ratios come as fractions too.
    "body_fat": {"{fraction}"},
}  # fmt: skip
WORDS = {"fraction 0..1 (x100)": {"{fraction}"}, "fraction": {"{fraction}"}, "as above": {"{beats}/min", "bpm"}}
COMPONENT_ROWS = {
    # The page puts the components of the panel into one row.
    "bp_avg_sys": "96608-5",
    "bp_avg_dia": "96609-3",
}
NO_KEY_ROWS = {
    # Rows without a key: what they belong to.
    "Glucose, sample type unknown": "glucose",
}
UNITS_BY_WORD = {"(components)": "mm[Hg]", "code A/C/V/P/U": "{code}", "coded": "{code}"}
RANGES_OF_THE_CATALOGUE_ALONE = {
    # As in the row of the same kind of rate, pressure or sample.
    "pulse_rate_nibp": "pulse_rate", "bp_avg_sys": "bp_sys", "bp_avg_dia": "bp_dia", "glucose": "glucose_bg",
}  # fmt: skip
BOUNDS_BY_DEFINITION = {
    # A percentage, a share of oxygen that nobody breathes less of, the height of people: no clinical claim.
    "body_fat": (0, 100), "fev1_fvc": (0, 100), "fio2": (15, 100), "height": (30, 260),
}  # fmt: skip
NOT_A_SUSPECT_RANGE = {
    # A change over time, judged by a rule, not by a range.
    "weight": "change > 5 kg since yesterday",
}


class Row(NamedTuple):
    key: str
    observation: str
    loinc: str
    reference: str
    mdc: str
    unit: str
    accepted: str


def section(heading: str) -> str:
    return PAGE.split(f"### {heading}")[1].split("\n##")[0]


def cells(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows][2:]


CODE_ROWS = [Row(*row) for row in cells(section("1.1"))]
KEYED = {row.key.strip("`"): row for row in CODE_ROWS if row.key}


def row_of(vital: Vital) -> Row:
    for observation, key in NO_KEY_ROWS.items():
        if key == vital.key:
            return next(row for row in CODE_ROWS if row.observation == observation)
    return KEYED["bp_avg" if vital.key in COMPONENT_ROWS else vital.key]


def loinc_codes(text: str) -> set[str]:
    return set(re.findall(r"\d+-\d\b", text))


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def bounds(cell: str) -> tuple[float, float] | None:
    match = re.match(r"([\d.]+)-([\d.]+)", cell)
    return (float(match[1]), float(match[2])) if match else None


FIRST_OF_OURS = 34
"""From this code on the catalogue has what the page's table does not: computed scores and answers of people."""
OF_THE_PAGE = [vital for vital in VITALS if vital.code < FIRST_OF_OURS]

RANGE_ROWS = {key.strip(): row for row in cells(section("1.3")) for key in re.sub(r"\(.*\)", "", row[0]).split(",")}


def test_every_row_of_the_page_is_in_the_catalogue_and_the_other_way_round() -> None:
    assert KEYED.keys() | COMPONENT_ROWS.keys() | set(NO_KEY_ROWS.values()) == {vital.key for vital in OF_THE_PAGE}
    unkeyed = {row.observation for row in CODE_ROWS if not row.key}
    assert unkeyed == {
        "- oral / ear / axilla / tympanic variants", "Capillary glucose, moles", "CGM interstitial glucose, moles",
        "Glucose, sample type unknown", "values: sinus / AF / tachy / SV brady",
    }  # fmt: skip


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_loinc_codes_are_those_of_the_page(vital: Vital) -> None:
    if vital.key in COMPONENT_ROWS:
        assert vital.loinc == (COMPONENT_ROWS[vital.key],)
        assert COMPONENT_ROWS[vital.key] in row_of(vital).loinc
        return
    page = loinc_codes(row_of(vital).loinc)
    assert set(vital.loinc) == (page | EXTRA_LOINC.get(vital.key, set())) - OTHER_LOINC.get(vital.key, set())
    # Where the page has several, the first is the vital's own.
    own = re.search(r"\d+-\d\b", row_of(vital).loinc)
    assert own is not None
    assert vital.loinc[0] == own[0]


@pytest.mark.parametrize(
    ("key", "observation"),
    [("glucose_bg", "Capillary glucose, moles"), ("glucose_isf", "CGM interstitial glucose, moles")],
)
def test_codes_of_the_moles_series_are_those_of_the_page(key: str, observation: str) -> None:
    row = next(row for row in CODE_ROWS if row.observation == observation)
    assert loinc_codes(row.loinc) == EXTRA_LOINC[key]
    assert ticked(row.unit) <= set(BY_KEY[key].accepts)


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_mdc_codes_are_those_of_the_page(vital: Vital) -> None:
    numbers = [int(number) for number in re.findall(r"\d+", row_of(vital).mdc.split("(unit")[0])]
    found = [] if vital.mdc is None else [vital.mdc]
    if vital.key != "ecg_rhythm":
        found += [code for name, code in vital.other_codes.items() if vital.key != "temp"]
    assert found == numbers


@pytest.mark.parametrize(
    ("key", "observation"),
    [("temp", "- oral / ear / axilla / tympanic variants"), ("ecg_rhythm", "values: sinus / AF / tachy / SV brady")],
)
def test_codes_of_variants_are_those_of_the_page(key: str, observation: str) -> None:
    row = next(row for row in CODE_ROWS if row.observation == observation)
    assert [str(code) for code in BY_KEY[key].other_codes.values()] == row.mdc.split(" / ")
    names = [name.lower().replace(" ", "_") for name in re.findall(r"[A-Za-z ]+", observation.rpartition(":")[2])]
    words = [name.removesuffix("_variants").strip("_") for name in names]
    assert list(BY_KEY[key].other_codes) == words


def test_an_enumeration_has_the_values_of_the_page() -> None:
    assert "/".join(BY_KEY["acvpu"].values) == KEYED["acvpu"].unit.removeprefix("code ")
    assert BY_KEY["ecg_rhythm"].values == tuple(BY_KEY["ecg_rhythm"].other_codes)
    assert all(bool(vital.values) == (vital.unit == "{code}") for vital in VITALS)


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_canonical_units_are_those_of_the_page(vital: Vital) -> None:
    cell = row_of(vital).unit
    assert vital.unit == (UNITS_BY_WORD.get(cell) or cell.strip("`"))
    assert UNIT_BY_NAME[vital.unit].ucum == vital.unit


@pytest.mark.parametrize("vital", [vital for vital in OF_THE_PAGE if not vital.values], ids=lambda vital: vital.key)
def test_accepted_units_are_those_of_the_page(vital: Vital) -> None:
    cell = row_of(vital).accepted
    page = WORDS.get(cell) or ticked(cell)
    if vital.key in COMPONENT_ROWS:
        # The components are pressures like any other.
        page = ticked(KEYED["bp_sys"].accepted)
    assert set(vital.accepts) == page | EXTRA_ACCEPTED.get(vital.key, set())
    assert all(accepts(vital, unit) for unit in (*vital.accepts, vital.unit)) != bool(vital.panel)


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_ranges_are_those_of_the_page(vital: Vital) -> None:
    key = RANGES_OF_THE_CATALOGUE_ALONE.get(vital.key, vital.key)
    if key not in RANGE_ROWS:
        assert vital.implausible == BOUNDS_BY_DEFINITION.get(key, (-INF, INF))
        assert vital.suspect == (-INF, INF)
        return
    implausible, suspect = RANGE_ROWS[key][1:3]
    assert vital.implausible == bounds(implausible)
    if key in NOT_A_SUSPECT_RANGE:
        assert (suspect, vital.suspect) == (NOT_A_SUSPECT_RANGE[key], (-INF, INF))
    elif suspect.startswith("sensor range"):
        sensor = bounds(suspect.removeprefix("sensor range "))
        assert (vital.sensor_range, vital.suspect) == (sensor, sensor)
    else:
        assert vital.suspect == bounds(suspect)


def test_every_range_of_the_page_is_used() -> None:
    assert RANGE_ROWS.keys() <= BY_KEY.keys()
    assert len(RANGE_ROWS) == 20
    assert [vital.key for vital in VITALS if vital.sensor_range] == ["glucose_isf"]


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_the_suspect_range_lies_in_the_plausible_one(vital: Vital) -> None:
    low, high = vital.implausible
    assert low < high
    if vital.suspect != (-INF, INF):
        assert low <= vital.suspect[0] < vital.suspect[1] <= high


def test_paging_ages_are_those_of_the_page() -> None:
    match = re.search(r"continuous (\d+) min, spot (\d+) h, weight (\d+) h", section("1.3"))
    assert match is not None
    minutes, hours, weight = (int(number) for number in match.groups())
    for vital in OF_THE_PAGE:
        assert vital.paging_age_ns(Mode.CONTINUOUS) == minutes * MINUTE_NS
        # A body mass index is as old as the weight it is made of.
        spot = weight if vital.key in ("weight", "bmi") else hours
        assert vital.paging_age_ns(Mode.SPOT) == spot * HOUR_NS


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_nothing_stays_current_for_less_time_than_it_may_page(vital: Vital) -> None:
    for mode in Mode:
        assert vital.staleness_ns(mode) >= vital.paging_age_ns(mode)


def test_staleness_is_by_vital_and_mode() -> None:
    assert BY_KEY["glucose_isf"].mode is Mode.CONTINUOUS
    assert BY_KEY["glucose_isf"].staleness_ns(Mode.CONTINUOUS) == 15 * MINUTE_NS
    assert BY_KEY["heart_rate"].staleness_ns(Mode.SPOT) == 12 * HOUR_NS


def test_codes_and_keys_are_unique_and_fit_the_wire() -> None:
    assert len({vital.code for vital in VITALS}) == len({vital.key for vital in VITALS}) == len(VITALS)
    assert set(BY_CODE) == set(range(1, CODE_SPACE))
    assert CODE_SPACE < 2**16


def test_codes_on_the_wire_keep_their_meaning() -> None:
    """Append-only: logs and stores refer to them. A new vital is a new number."""
    assert " ".join(vital.key for vital in VITALS).startswith(
        "heart_rate pulse_rate pulse_rate_nibp spo2 resp_rate bp bp_sys bp_dia bp_mean bp_avg bp_avg_sys bp_avg_dia"
        " temp glucose_bg glucose_isf glucose weight height bmi body_fat perf_index rr_interval hrv_sdnn steps sleep"
        " acvpu o2_flow fio2 pef fev1 fvc fev1_fvc ecg_rhythm"
    )
    assert [vital.code for vital in VITALS] == list(range(1, len(VITALS) + 1))


def test_panels_have_parts_that_exist_and_take_no_value() -> None:
    panels = {vital.key: vital.panel for vital in VITALS if vital.panel}
    assert panels == {"bp": ("bp_sys", "bp_dia", "bp_mean"), "bp_avg": ("bp_avg_sys", "bp_avg_dia")}
    assert all(part in BY_KEY for parts in panels.values() for part in parts)
    assert not accepts(BY_KEY["bp"], "mm[Hg]")


@pytest.mark.parametrize(
    ("key", "unit", "expected"),
    [("heart_rate", "bpm", True), ("heart_rate", "beats/min", True), ("spo2", "percent", True), ("weight", "lbs", True),
     ("temp", "°F", True), ("glucose_bg", "MGDL", True), ("spo2", "mm[Hg]", False), ("weight", "cm", False),
     ("height", "[lb_av]", False), ("heart_rate", "furlongs", False), ("perf_index", "{fraction}", False)],
)  # fmt: skip
def test_accepted_units_by_any_spelling(key: str, unit: str, expected: bool) -> None:
    assert accepts(BY_KEY[key], unit) is expected


@pytest.mark.parametrize("vital", [vital for vital in OF_THE_PAGE if not vital.panel], ids=lambda vital: vital.key)
def test_every_accepted_unit_converts(vital: Vital) -> None:
    for unit in (*vital.accepts, vital.unit):
        assert np.isfinite(to_canonical(1.0, UNIT_BY_NAME[unit].ucum, vital.unit))


def test_table_is_indexed_by_code() -> None:
    low = table(-INF, {vital.code: vital.implausible[0] for vital in VITALS})
    assert (low.shape, low.dtype) == ((CODE_SPACE,), np.float64)
    assert low[BY_KEY["spo2"].code] == 50
    assert low[0] == -INF


NO_RED_LIMIT_OF_ONE_SAMPLE = {
    # Judged over time, against a patient's own values, or flagged implausible before it is urgent.
    "rr_interval", "weight", "pef", "fev1", "o2_flow",
}  # fmt: skip
RED_AS = {"pulse_rate_nibp": "heart_rate", "glucose": "glucose_bg"}


@pytest.mark.parametrize("vital", OF_THE_PAGE, ids=lambda vital: vital.key)
def test_red_limits_are_those_of_the_page(vital: Vital) -> None:
    key = RED_AS.get(vital.key, vital.key)
    if key not in RANGE_ROWS or key in NO_RED_LIMIT_OF_ONE_SAMPLE:
        assert vital.urgent == ("", "")
        return
    low, _, high = RANGE_ROWS[key][3].partition(" / ")
    # Behind the first number stand other populations (88-92 target, acute care) and durations ("for 2 h").
    first = [re.match(r"[<>]=?[\d.]+", side) for side in (low, high)]
    page = tuple("" if one is None or " for " in side else one[0] for one, side in zip(first, (low, high), strict=True))
    assert vital.urgent == page


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("spo2", {91: True, 91.5: False, 100: False, math.nan: False}),
        ("bp_sys", {90: True, 90.5: False, 180: False, 180.5: True}),
        ("glucose_bg", {53.9: True, 54: False, 400: False, 401: True}),
        ("bp_dia", {0: False, 120: False, 121: True}),
        ("weight", {0: False, math.inf: False, -math.inf: False}),
    ],
)
def test_a_red_limit_that_is_reached_counts_where_the_page_says_so(key: str, values: dict[float, bool]) -> None:
    vital = np.full(len(values), BY_KEY[key].code, np.uint16)
    assert is_urgent(vital, np.array(list(values), float)).tolist() == list(values.values())
