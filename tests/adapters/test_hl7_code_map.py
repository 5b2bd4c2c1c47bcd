"""The code map of a sender: what it gives a meaning, and every way for it to be refused."""

from typing import Any

import pytest

from ingest.adapters.hl7.code_map import MOST_CODES, CodeMap, parse
from tests.adapters.decoding import decode, reading_rows
from tests.adapters.test_hl7_v2 import encoded, row, said
from vitals.catalog import BY_CODE
from vitals.errors import ConfigError
from vitals.glossary import EventKind, Reason
from vitals.units import UNITS, convertible, source_of_factor, to_canonical


def table(*rows: str, version: str = "version = 3") -> str:
    return "\n".join([version, *(f"[[codes]]\n{row}" for row in rows)])


HEART = 'code = "108"\nsystem = "99mndry"\nvital = "heart_rate"\nunit = "/min"'
PRESSURE = 'code = "S1"\nsystem = "99NK"\nvital = "bp_art_sys"\nunit = "mm[Hg]"\nfactor = 7.500616827'
CORE = 'code = "150352"\nsystem = "MDC"\nvital = "temp"\nunit = "Cel"\nsite = "artery"'
MAP = table(HEART, PRESSURE, CORE)


def read(**changes: Any) -> list[dict[str, Any]]:
    return reading_rows(decode("hl7v2", encoded([row(**changes)]), code_map=MAP).batch)


def test_local_codes_become_readings_in_the_unit_of_the_map() -> None:
    [shown] = read(f3="108^MNDRY_HR^99MNDRY", f5="131", f6="")
    assert (shown["vital"], shown["value"], shown["unit"]) == ("heart_rate", 131.0, "/min")
    assert shown["context"]["code_map"] == "version 3"
    # The unit that the sender writes is the map's, or in words of its own.
    for unit in ("bpm", "schlaege", "264864^MDC_DIM_BEAT_PER_MIN^MDC"):
        assert [one["value"] for one in read(f3="108^^99MNDRY", f5="60", f6=unit)] == [60.0]
    # A factor of the unit table names the unit of the sender's numbers.
    [shown] = read(f3="S1^ART^99NK", f5="8", f6="")
    assert (shown["vital"], shown["value"], shown["unit"]) == ("bp_art_sys", 8.0, "kPa")
    # A code of MDC that the allow-list does not have, and an alternate triple.
    [shown] = read(f3="150352^^MDC", f5="37.2", f6="Cel")
    assert (shown["vital"], shown["context"]["site"]) == ("temp", "artery")
    assert [one["vital"] for one in read(f3="X^^99A^108^^99MNDRY", f6="/min")] == ["heart_rate"]


def test_what_the_map_does_not_say_stays_as_it_is() -> None:
    decoded = decode("hl7v2", encoded([row(), row(f3="109^^99MNDRY"), row(f3="108^^99X")]), code_map=MAP)
    assert [one["vital"] for one in reading_rows(decoded.batch)] == ["spo2"]
    assert [event.detail.split()[0] for event in decoded.events] == ["99MNDRY:109", "99X:108"]
    # A number of the map beside the name of another vital sign is still a contradiction or the name's.
    found = decode("hl7v2", encoded([row(f3="150352^MDC_PULS_OXIM_SAT_O2^MDC")]), code_map=MAP)
    assert [one["vital"] for one in reading_rows(found.batch)] == ["spo2"]


def test_another_unit_than_that_of_the_map_is_no_reading() -> None:
    decoded = decode("hl7v2", encoded([row(f3="150352^^MDC", f5="98.6", f6="[degF]")]), code_map=MAP)
    assert said(decoded) == [(Reason.UNKNOWN_UNIT, "OBX[1]-6: another unit than that of the code map")]
    assert len(decoded.batch) == 0


def test_quality_sentinels_and_corrections_hold_for_local_codes() -> None:
    assert read(f3="108^^99MNDRY", f5="-100", f6="") == []
    absent = decode("hl7v2", encoded([row(f3="108^^99MNDRY", f5="---", f6="")]), code_map=MAP)
    [event] = absent.events
    assert (event.kind, BY_CODE[event.vital].key) == (EventKind.VALUE_ABSENT, "heart_rate")
    first, second = (
        read(f3="108^^99MNDRY", f5=text, f6="", f11=status)[0] for text, status in (("60", "F"), ("61", "C"))
    )
    assert first["seq"] == second["seq"]
    assert first["seq"] != read(f3="108^^99MNDRY", f4="1.1.1.2", f5="60", f6="")[0]["seq"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("version = ", "code_map"),
        (table(HEART, version=""), "version"),
        (table(HEART, version="version = true"), "version"),
        (table(HEART, version="version = 0"), "version"),
        ("version = 1", "codes"),
        ("version = 1\ncodes = [1]", "codes.1"),
        (table(HEART, version='version = 1\nsender = "x"'), "code_map.sender"),
        (table(*[HEART] * (MOST_CODES + 1)), "codes"),
        (table(HEART, HEART.replace("mndry", "MNDRY")), "codes.2"),
        (table(HEART + '\nnote = "x"'), "codes.1.note"),
        (table(HEART.replace('"108"', "108")), "codes.1.code"),
        (table(HEART.replace('"108"', '""')), "codes.1.code"),
        (table(HEART.replace('"108"', '"für"')), "codes.1.code"),
        (table(HEART.replace('system = "99mndry"', "")), "codes.1.system"),
        (table(HEART.replace("heart_rate", "heart_beat")), "codes.1.vital"),
        (table(HEART.replace("heart_rate", "bp")), "codes.1.vital"),
        (table(HEART.replace("heart_rate", "acvpu")), "codes.1.vital"),
        (table(HEART.replace("heart_rate", "news2")), "codes.1.vital"),
        (table(HEART.replace("/min", "mm[Hg]")), "codes.1.unit"),
        (table(HEART + "\nfactor = 10"), "codes.1.factor"),
        (table(HEART + "\nfactor = true"), "codes.1.factor"),
        (table(PRESSURE.replace("7.500616827", "7.5")), "codes.1.factor"),
        (table(CORE + "\nfactor = 0.1"), "codes.1.factor"),
        # What has a meaning keeps it: numbers of the allow-list, in any form, LOINC, panels, status words, units.
        (table(CORE.replace("150352", "150456")), "codes.1.code"),
        (table(CORE.replace("150352", "MDC_TEMP")), "codes.1.code"),
        (table(CORE.replace("150352", "0002-4bb8").replace('"MDC"', '"MDIL"')), "codes.1.code"),
        (table(CORE.replace("150352", "8867-4").replace('"MDC"', '"LN"')), "codes.1.code"),
        (table(CORE.replace("150352", "150020")), "codes.1.code"),
        (table(CORE.replace("150352", "68481")), "codes.1.code"),
        (table(CORE.replace("150352", "262688")), "codes.1.code"),
    ],
)
def test_a_map_that_is_wrong_is_refused_and_its_place_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.setting == named
    decoded = decode("hl7v2", encoded([row()]), code_map=text)
    assert said(decoded) == [(Reason.BAD_VALUE, f"setting code_map: {named}")]


def test_no_map_is_the_empty_one() -> None:
    assert parse("") == CodeMap()
    assert parse("").find(("108", "", "99MNDRY")) is None


def test_factors_are_those_of_the_unit_table() -> None:
    for source in UNITS:
        for target in UNITS:
            if source is target or not convertible(source.ucum, target.ucum):
                continue
            one, two = (float(to_canonical([value], source.ucum, target.ucum)[0]) for value in (1.0, 2.0))
            if two == 2 * one:
                found = source_of_factor(one, target.ucum)
                assert found is not None or target.ucum == "h" or source.ucum == "mol/L"
                assert found is None or float(to_canonical([1.0], found, target.ucum)[0]) == one
    assert source_of_factor(10.0, "Cel") is None
