"""The ``hl7v2`` adapter: fields, values, times, identities, and every way to be wrong or cut."""

import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.scores.tables import SOURCES
from ingest.adapter import Context, Decoded, SourceClock
from ingest.adapters.hl7 import codes, mdc, segments, v2
from ingest.adapters.hl7.segments import parse_time
from ingest.adapters.reading.observation_codes import LOINC_ALSO
from tests.adapters.decoding import assert_sound, decode, decode_all, iso, message, reading_rows
from vitals.catalog import BY_CODE, BY_KEY, VITALS
from vitals.glossary import EventKind, Flag, Reason

CASES = Path(__file__).parent / "cases" / "hl7v2"
MONITOR = (CASES / "worked_monitor" / "input.hl7").read_bytes()
CUFF = (CASES / "worked_blood_pressure" / "input.hl7").read_bytes()
SPO2 = "150456^MDC_PULS_OXIM_SAT_O2^MDC"
PERCENT = "262688^MDC_DIM_PERCENT^MDC"
NAMES = ("Doe", "Jane", "PT-0017", "12345", "19570412", "Roe", "Rick", "JD-1")


def encoded(
    rows: Iterable[Mapping[int, str]], *, marks: str = "|^~\\&", end: str = "\r", sent: str = "20240310210522-0400",
    control: str = "N1", order: str = "20240310210400-0400",
) -> bytes:  # fmt: skip
    """An ORU^R01; rows are OBX fields by number, in which ``^~\\&`` stand for the marks as they are."""
    field, component, repetition, _escape, sub = marks
    table = str.maketrans({"^": component, "~": repetition, "&": sub})

    def segment(name: str, values: Mapping[int, str]) -> str:
        return field.join([name, *(values.get(n, "").translate(table) for n in range(1, max(values) + 1))])

    header = {6: sent, 8: "ORU^R01^ORU_R01", 9: control, 10: "P", 11: "2.6", 2: "HUB17^0024BEFFFE804FF1^EUI-64"}
    lines = [
        f"MSH{field}{marks[1:]}" + segment("", header | {1: ""})[1:],
        segment("PID", {3: "PT-0017^^^HOSP^MR", 5: "Doe^Jane"}),
        segment("OBR", {1: "1", 4: "182777000^monitoring of patient^SCT", 7: order}),
        *(segment("OBX", row) for row in rows),
    ]
    return "".join(line + end for line in lines).encode("latin-1")


def row(**changes: Any) -> dict[int, str]:
    """A good OBX with fields ``f5="..."`` changed."""
    good = {1: "1", 2: "NM", 3: SPO2, 4: "1.1.1.1", 5: "97", 6: PERCENT, 11: "R", 14: "20240310210400-0400"}
    return good | {int(name[1:]): text for name, text in changes.items()}


def one(**changes: Any) -> Decoded:
    return decode("hl7v2", encoded([row(**changes)]))


def said(decoded: Decoded) -> list[tuple[Reason, str]]:
    return [(reject.reason, reject.detail) for reject in decoded.rejects]


def seqs(payload: bytes) -> list[int]:
    return [int(seq) for seq in decode("hl7v2", payload).batch.seq]


# Round trip.

TEXTS = st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 4)).map(
    lambda pair: f"{pair[0] / 10 ** pair[1]:.{pair[1]}f}"
)
UNITED = [vital for vital in VITALS if not vital.panel and not vital.values and (vital.loinc or vital.mdc)]


@st.composite
def measured(draw: st.DrawFn) -> tuple[str, str, int, int]:
    vital = draw(st.sampled_from(UNITED))
    seconds = draw(st.integers(0, 4 * 10**9))
    return vital.key, draw(TEXTS), seconds, draw(st.integers(-14 * 4, 14 * 4)) * 15


def _written(key: str, text: str, seconds: int, offset: int, number: int) -> dict[int, str]:
    vital = BY_KEY[key]
    code = f"{vital.mdc}^^MDC" if vital.mdc is not None else f"{vital.loinc[0]}^^LN"
    local = iso((seconds + offset * 60) * 10**9).replace("-", "").replace("T", "").replace(":", "")
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}{abs(offset) % 60:02}"
    return {
        1: str(number),
        2: "NM",
        3: code,
        4: f"1.1.1.{number}",
        5: text,
        6: f"{vital.unit}^^UCUM",
        11: "F",
        14: local + zone,
    }


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    readings=st.lists(measured(), min_size=1, max_size=5),
    marks=st.sampled_from(["|^~\\&", "!$@/%", "#*;\\:", "|:~`&"]),
    end=st.sampled_from(["\r", "\n", "\r\n"]),
)
def test_what_an_encoder_writes_is_read_back(readings: list[tuple[str, str, int, int]], marks: str, end: str) -> None:
    rows = [_written(*reading, number) for number, reading in enumerate(readings, 1)]
    decoded = decode("hl7v2", encoded(rows, marks=marks, end=end))
    assert not decoded.rejects
    found = reading_rows(decoded.batch)
    for (key, text, seconds, offset), shown in zip(readings, found, strict=True):
        assert (shown["vital"], shown["value"], shown["unit"]) == (key, float(text), BY_KEY[key].unit)
        assert (shown["source_time"], shown["tz_min"], shown["clock"]) == (iso(seconds * 10**9), offset, "instant")
        # No digit of the source is lost: either the number says them all, or the text beside it.
        assert shown["context"].get("text", text) == text
        assert "text" in shown["context"] or f"{float(text):.{len(text.partition('.')[2])}f}" == text
    assert len({shown["seq"] for shown in found}) == len(found)


# Cut short, or not at all what it should be.


@pytest.mark.parametrize("payload", [MONITOR, CUFF], ids=["monitor", "cuff"])
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_message_cut_at_any_byte_never_gives_another_reading(payload: bytes, end: bytes) -> None:
    whole = payload.replace(b"\r", end)
    complete = {_key(shown) for shown in reading_rows(decode("hl7v2", whole).batch)}
    for length in range(len(whole)):
        decoded = decode("hl7v2", whole[:length])
        assert_sound(decoded, [message("hl7v2", whole[:length])])
        found = {_key(shown) for shown in reading_rows(decoded.batch)}
        assert found <= complete, length
        # A row that began and is neither read nor structure is told, and so is a message without rows.
        begun = whole[:length].count(b"OBX|")
        structure = 2 if payload is CUFF else 1
        assert begun or decoded.rejects, length
        assert len(found) + structure >= begun or decoded.rejects, length


def _key(shown: dict[str, Any]) -> tuple[Any, ...]:
    return shown["vital"], shown["value"], shown["unit"], shown["source_time"], shown["seq"], *shown["flags"]


BAD: list[tuple[dict[str, str], Reason, str]] = [
    ({"f2": "DTM", "f5": "20240310"}, Reason.BAD_TYPE, "OBX[1]-2"),
    ({"f2": "DT", "f5": "20240310"}, Reason.BAD_TYPE, "OBX[1]-2"),
    ({"f2": "TM", "f5": "2104"}, Reason.BAD_TYPE, "OBX[1]-2"),
    ({"f2": "CWE", "f5": "97^^L"}, Reason.BAD_TYPE, "OBX[1]-2"),
    ({"f2": "XYZ"}, Reason.BAD_TYPE, "OBX[1]-2"),
    ({"f3": ""}, Reason.MISSING_FIELD, "OBX[1]-3"),
    ({"f5": "ninety"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "9,700"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "9,7,0"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "97 furlong"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "97 mmHg"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f3": "150021^^MDC", "f6": "kPa", "f5": "16 mmHg"}, Reason.BAD_VALUE, "OBX[1]-5: another unit than OBX-6"),
    ({"f3": "150021^^MDC", "f6": "", "f5": "120/80"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "9.7E1"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f5": "97^98"}, Reason.BAD_VALUE, "OBX[1]-5: 2 components"),
    ({"f5": "97~98"}, Reason.BAD_VALUE, "OBX[1]-5: 2 repetitions"),
    ({"f2": "NA", "f5": "97^98^99"}, Reason.BAD_VALUE, "OBX[1]-5: 3 components"),
    ({"f2": "SN", "f5": "^1^:^8"}, Reason.BAD_VALUE, "OBX[1]-5: a range or ratio"),
    ({"f2": "SN", "f5": "<>^97"}, Reason.BAD_VALUE, "OBX[1]-5: a range or ratio"),
    ({"f6": ""}, Reason.MISSING_FIELD, "OBX[1]-6"),
    ({"f6": "266016^MDC_DIM_MMHG^MDC"}, Reason.UNKNOWN_UNIT, "OBX[1]-6"),
    ({"f6": "furlong"}, Reason.UNKNOWN_UNIT, "OBX[1]-6"),
    ({"f11": "Q"}, Reason.BAD_VALUE, "OBX[1]-11"),
    ({"f11": "FF"}, Reason.BAD_VALUE, "OBX[1]-11"),
    ({"f14": "yesterday"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "2024"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "202403"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "20240230210400-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "20240310250400-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "20240310210460-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "20240310210400-0460"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "16000310210400-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "20240310240001-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f14": "2024031021040012-0400"}, Reason.BAD_TIME, "OBX[1]-14"),
    ({"f3": "184327^^MDC", "f2": "CWE", "f5": "1^^MDC"}, Reason.BAD_VALUE, "OBX[1]-5"),
    ({"f3": "184327^^MDC", "f2": "NM", "f5": "1"}, Reason.BAD_TYPE, "OBX[1]-2"),
]


@pytest.mark.parametrize(("changes", "reason", "detail"), BAD)
def test_a_bad_row_is_named_and_hurts_no_other(changes: dict[str, str], reason: Reason, detail: str) -> None:
    assert said(one(**changes)) == [(reason, detail)]
    assert len(one(**changes).batch) == 0
    good = row(f4="1.1.1.2")
    decoded = decode("hl7v2", encoded([good, row(**changes), good | {4: "1.1.1.3"}]))
    assert said(decoded) == [(reason, detail.replace("[1]", "[2]"))]
    assert decoded.batch.value.tolist() == [97.0, 97.0]


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"PID|1\r", Reason.MALFORMED, "MSH"),
        (b"MSH", Reason.MALFORMED, "MSH-2"),
        (b"MSH|", Reason.MALFORMED, "MSH-2"),
        (b"MSHA^~\\&", Reason.MALFORMED, "MSH-2"),
        (b"MSH|^^\\&|a\r", Reason.MALFORMED, "MSH-2"),
        (b"MSH|^~\\&#?|a\r", Reason.MALFORMED, "MSH-2"),
        (b"FHS|^~\\&\rMSH|^~\\&\r", Reason.MALFORMED, "MSH"),
        (b"MSH|^~\\&|a\r", Reason.MISSING_FIELD, "MSH-9"),
        (MONITOR.replace(b"ORU^R01^ORU_R01", b"ADT^A01^ADT_A01"), Reason.BAD_VALUE, "MSH-9"),
        (MONITOR.replace(b"ORU^R01^ORU_R01", b"ORU^R41^ORU_R41"), Reason.BAD_VALUE, "MSH-9"),
        (MONITOR.replace(b"ORU^R01^ORU_R01", b"ORU^R40^ORU_R40"), Reason.MISSING_FIELD, "OBR[1]: no code of an alarm"),
        (MONITOR.replace(b"UNICODE UTF-8", b"GB 18030-2000"), Reason.MALFORMED, "MSH-18"),
        (MONITOR.partition(b"OBX")[0], Reason.MISSING_FIELD, "OBX"),
        (MONITOR + MONITOR, Reason.MALFORMED, "line 11: a second MSH"),
    ],
)  # fmt: skip
def test_no_such_message(payload: bytes, reason: Reason, detail: str) -> None:
    decoded = decode("hl7v2", payload)
    assert said(decoded) == [(reason, detail)]
    assert len(decoded.batch) == 0
    assert not decoded.events


def test_nothing_of_a_person_is_in_anything_returned() -> None:
    spoiled = [
        payload.replace(b"94|", b"Jane Doe|").replace(b"|R|", b"|Doe|") + b"Jane Doe's line\r"
        for payload in (MONITOR, CUFF)
    ]
    texts = [encoded([row(f2="ST", f3="68546^MDC_ATTR_ALERT_TEXT^MDC", f5="Jane Doe")])]
    coded = [encoded([row(f2="CWE", f3="150604^^MDC", f5="12345^Doe^99X")])]
    for path in sorted(CASES.glob("*/input.*")):
        texts.append(path.read_bytes())
    for payload in [*spoiled, *texts, *coded]:
        decoded = decode("hl7v2", payload)
        said = repr(decoded.rejects) + repr(decoded.events) + repr(dict(decoded.batch.context))
        assert not [name for name in NAMES if name in said]


ODD = ["NM", "SN", "NA", "CWE", "ST", '""', "X", "D", "C", "<~DEMO", "^^^^", "\\X41\\", "\\F"]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from([f"f{n}" for n in (1, 2, 3, 4, 5, 6, 8, 11, 14, 18)]),
        st.one_of(st.text(st.characters(max_codepoint=255), max_size=24), st.sampled_from(ODD)),
    ),
    sent=st.sampled_from(["20240310210522-0400", "20240310", "", "x"]),
)  # fmt: skip
def test_no_field_raises(changes: dict[str, str], sent: str) -> None:
    payload = encoded([row(f4="1.9"), row(**changes)], sent=sent)
    assert_sound(decode("hl7v2", payload), [message("hl7v2", payload)])


# Identity.


def test_a_retransmission_meets_itself_and_a_correction_its_original() -> None:
    first = encoded([row()], control="N1")
    corrected = encoded([row(f5="96", f11="C")], control="N2")
    withdrawn = encoded([row(f5="", f11="D")], control="N3")
    assert seqs(first) == seqs(encoded([row()], control="N1")) == seqs(corrected) == seqs(withdrawn)
    times = {int(decode("hl7v2", payload).batch.source_time_ns[0]) for payload in (first, corrected, withdrawn)}
    assert len(times) == 1
    batch = decode("hl7v2", withdrawn).batch
    assert batch.flags.tolist() == [int(Flag.RETRACTED)]
    assert math.isnan(batch.value[0])


def test_control_ids_and_corrections_stand_beside_the_readings() -> None:
    two = encoded([row(), row(f4="1.1.1.2", f5="96", f11="C")], control="N1")
    again, other = two, encoded([row()], control="N2")
    decoded = decode_all([message("hl7v2", payload) for payload in (two, again, other)])
    assert decoded.document is not None
    first, second, third, fourth, fifth = decoded.document.tolist()
    assert first == second == third == fourth != fifth
    assert decoded.correction is not None
    assert decoded.correction.tolist() == [False, True, False, True, False]
    without = decode("hl7v2", encoded([row()], control=""))
    assert (without.document, without.correction) == (None, None)
    assert decode("hl7v2", two, obx11="C=value").correction is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [("-100", "sentinel_-100"), ("-999.0", "sentinel_-999"), ("8388607", "sentinel_8388607"),
     ("---", "no_number_shown"), ("-?-", "no_number_shown"), ("", "empty"), ('""', "empty")],
)  # fmt: skip
@pytest.mark.parametrize("vital", sorted({number for number in mdc.METRICS if number != 184327}))
def test_what_stands_for_no_value_is_absent_with_a_reason(vital: int, text: str, reason: str) -> None:
    key = BY_CODE[mdc.METRICS[vital].vital]
    decoded = one(f3=f"{vital}^^MDC", f5=text, f6=key.unit)
    assert (len(decoded.batch), said(decoded)) == (0, [])
    assert [(event.kind, event.detail, event.vital) for event in decoded.events] == [
        (EventKind.VALUE_ABSENT, reason, key.code)
    ]


def test_an_empty_status_is_final_and_said_or_rejects_its_row() -> None:
    decoded = one(f11="")
    assert decoded.batch.context[0]["status"] == "assumed_final"
    refused = decode("hl7v2", encoded([row(f11="")]), empty_obx11="reject")
    assert said(refused) == [(Reason.MISSING_FIELD, "OBX[1]-11")]
    assert len(refused.batch) == 0


@pytest.mark.parametrize(
    "charset", ["UNICODE", "UTF-8", "UNICODE UTF-8", "unicode utf-8", "ASCII~UNICODE UTF-8", "~UTF-8"]
)
def test_character_sets_of_ascii_kind(charset: str) -> None:
    decoded = decode("hl7v2", MONITOR.replace(b"UNICODE UTF-8", charset.encode()))
    assert not decoded.rejects
    assert len(decoded.batch)


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("150456^MDC_PULS_OXIM_SAT_O2^99X", "99X:150456"),
        ("108^MNDRY_ECG_PAUSE_RATE^99MNDRY", "99MNDRY:108"),
        ("MDC_PULS_OXIM_SAT_O2^^L", "L:MDC_PULS_OXIM_SAT_O2"),
        ("59408-5^SpO2^99LOCAL", "99LOCAL:#"),
        ("Jane Doe^^99X", "99X:#"),
        ("1234567^^Jane Doe", "local:1234567"),
        ("149530^SpO2^MDIL", "MDIL:149530"),
        ("0002-4BZ8^SpO2^MDIL", "MDIL:#"),
        ("150045^MDC_PRESS_BLD_ART_PULM_SYS^MDC", "mdc:150045 MDC_PRESS_BLD_ART_PULM_SYS"),
        ("9999-9^x^LN", "loinc:9999-9"),
    ],
)
def test_a_code_that_is_not_known_is_counted_with_its_number_and_rejects_nothing(code: str, label: str) -> None:
    decoded = decode("hl7v2", encoded([row(), row(f3=code, f5="55")]))
    assert (decoded.batch.value.tolist(), said(decoded), decoded.unknown_members) == ([97.0], [], 1)
    (event,) = decoded.events
    assert (event.kind, event.value, event.vital) == (EventKind.UNKNOWN_CODE, 55.0, 0)
    assert event.detail.startswith(label)
    assert one(f3=code, f2="ST", f5="Jane Doe").events[0].value is None


def test_a_number_and_a_name_of_two_vitals_are_no_reading() -> None:
    (event,) = (decoded := one(f3="150456^MDC_ECG_HEART_RATE^MDC", f5="84")).events
    assert (len(decoded.batch), said(decoded)) == (0, [])
    assert (event.kind, event.detail) == (EventKind.CODE_CONFLICT, "mdc:150456 MDC_ECG_HEART_RATE")
    assert (BY_CODE[event.vital].key, event.value) == ("spo2", 84.0)
    # Of two vitals that the unit fits, the one for which the value is urgent.
    rate = "264864^MDC_DIM_BEAT_PER_MIN^MDC"
    (event,) = one(f3="147842^MDC_RESP_RATE^MDC", f5="39", f6=rate).events
    assert BY_CODE[event.vital].key == "heart_rate"
    (event,) = one(f3="147842^MDC_RESP_RATE^MDC", f5="60", f6=rate).events
    assert (BY_CODE[event.vital].key, event.value) == ("resp_rate", 60.0)
    # Two codes of one vital do not contradict each other; what only one of them says is left out.
    (shown,) = reading_rows(one(f3="150344^MDC_TEMP_AXIL^MDC", f5="36", f6="Cel").batch)
    assert (shown["vital"], "site" in shown["context"]) == ("temp", False)


@pytest.mark.parametrize("code", ["150020^MDC_PULS_OXIM_SAT_O2^MDC", "262688^MDC_PULS_OXIM_SAT_O2^MDC"])
def test_a_number_of_something_else_contradicts_the_name_of_a_vital(code: str) -> None:
    (event,) = (decoded := one(f3=code, f5="70")).events
    assert (len(decoded.batch), decoded.unknown_members) == (0, 1)
    assert (event.kind, BY_CODE[event.vital].key, event.value) == (EventKind.CODE_CONFLICT, "spo2", 70.0)


def test_a_number_decides_where_the_name_is_not_known() -> None:
    for code in ("150456^SpO2 left hand^MDC", "150456^MDC_NO_SUCH_NAME^MDC", "150456^^MDC", "0002-4BB8^MDC_TEMP^MDIL"):
        assert [shown["vital"] for shown in reading_rows(one(f3=code).batch)] == ["spo2"]


@pytest.mark.parametrize("code", ["MDC_PULS_OXIM_SAT_O2X^^MDC", "mdc_puls_oxim_sat_o2^^MDC", "^SpO2^MDC", "1^SPO2^MDC"])
def test_a_name_decides_only_when_it_is_exactly_that(code: str) -> None:
    decoded = one(f3=code)
    assert (len(decoded.batch), [event.kind for event in decoded.events]) == (0, [EventKind.UNKNOWN_CODE])


@pytest.mark.parametrize(
    ("quality", "vital"), [("", "spo2"), ("DEMO", ""), ("H", "spo2")], ids=["plain", "demonstration", "flagged"]
)
def test_a_conflict_is_judged_by_a_vital_unless_it_is_test_data(quality: str, vital: str) -> None:
    (event,) = one(f3="150456^MDC_TEMP^MDC", f5="70", f8=quality).events
    assert (event.kind, event.value) == (EventKind.CODE_CONFLICT, 70.0)
    assert (BY_CODE[event.vital].key if event.vital else "") == vital
    # Without a unit of either vital the number is a sample alone.
    (event,) = one(f3="150456^MDC_TEMP^MDC", f5="70", f6="").events
    assert (event.vital, event.value) == (0, 70.0)


@pytest.mark.parametrize("name", ["MDC_VENT_RESP_RATE_SETTING", "MDC_ATTR_AL_LIMIT", "MDC_SPO2_LOW_LIMIT"])
def test_settings_and_limits_are_no_vitals_whatever_their_number(name: str) -> None:
    decoded = one(f3=f"150999^{name}^MDC", f5="12")
    assert (len(decoded.batch), [event.kind for event in decoded.events]) == (0, [EventKind.CONTEXT])
    # Under the number of a vital sign it is a contradiction for the worklist, and no value that may be judged.
    (event,) = (decoded := one(f3=f"150456^{name}^MDC", f5="12")).events
    assert (len(decoded.batch), event.kind, event.vital) == (0, EventKind.CODE_CONFLICT, 0)


def test_no_score_reads_what_is_measured_by_another_method() -> None:
    other = {code.metric.vital for code in mdc.CODES if code.metric.vital >= BY_KEY["bp_art_sys"].code}
    assert {BY_CODE[vital].key for vital in other} == {
        "bp_art_sys", "bp_art_dia", "bp_art_mean", "pulse_rate_art", "resp_rate_vent",
    }  # fmt: skip
    assert not {BY_CODE[vital].key for vital in other} & {key for keys in SOURCES.values() for key in keys}
    assert len({code.number for code in mdc.CODES}) == len(mdc.CODES)
    assert len(mdc.NAMES) == len({code.name for code in mdc.CODES if code.name}) + 5


def test_what_tells_readings_of_one_time_apart() -> None:
    rows = [row(), row(f4="1.1.1.2"), row(f3="150364^^MDC", f6="Cel"), row(f3="188424^^MDC", f6="Cel")]
    found = seqs(encoded(rows))
    assert len(set(found)) == 4
    # Marks and forms of a code are writing, not identity.
    assert seqs(encoded(rows, marks="!$@/%")) == found
    assert seqs(encoded([row(f3="MDC_PULS_OXIM_SAT_O2")])) == found[:1]
    assert seqs(encoded(rows).replace(b"HUB17", b"HUB18")) != found
    # To the clock stage a positive number is an order of records.
    assert all(-(2**63) <= seq < 0 for seq in found)


def test_without_any_time_each_message_is_new() -> None:
    payload = encoded([row(f14=""), row(f4="1.1.1.2", f14="")], sent="", order="")
    found = [tuple(v2.decode([message("hl7v2", payload, ordinal=n)], [Context()]).batch.seq.tolist()) for n in (1, 2)]
    assert len({seq for pair in found for seq in pair}) == 4
    assert decode("hl7v2", payload).batch.clock.tolist() == [SourceClock.NONE] * 2


# Times, delimiters, codes.


@pytest.mark.parametrize(
    ("text", "shown", "offset", "clock"),
    [
        ("20240310210522-0400", "2024-03-11T01:05:22", -240, SourceClock.INSTANT),
        ("20240310210522.123+0545", "2024-03-10T15:20:22.123000000", 345, SourceClock.INSTANT),
        ("202403102105+0000", "2024-03-10T21:05:00", 0, SourceClock.INSTANT),
        ("2024031021-0000", "2024-03-10T21:00:00", 0, SourceClock.INSTANT),
        ("20240310210522", "2024-03-10T21:05:22", None, SourceClock.WALL),
        ("20240310210522123-0400", "2024-03-11T01:05:22.123000000", -240, SourceClock.INSTANT),
        ("20240310210522,5-0400", "2024-03-11T01:05:22.500000000", -240, SourceClock.INSTANT),
        ("202402282400", "2024-02-29T00:00:00", None, SourceClock.WALL),
        ("20241231240000+0100", "2024-12-31T23:00:00", 60, SourceClock.INSTANT),
        ("20240310", "2024-03-10T00:00:00", None, SourceClock.DAY),
        ("20240310-0400", "2024-03-10T00:00:00", None, SourceClock.DAY),
    ],
)
def test_times(text: str, shown: str, offset: int | None, clock: SourceClock) -> None:
    time = parse_time(text)
    assert (iso(time.time_ns), time.offset, time.clock) == (shown, offset, clock)


def test_a_broken_time_of_the_message_matters_only_where_it_is_needed() -> None:
    assert not decode("hl7v2", encoded([row()], sent="soon")).rejects
    decoded = decode("hl7v2", encoded([row(f14="")], sent="soon", order=""))
    assert said(decoded) == [(Reason.BAD_TIME, "OBX[1]-14: MSH-7")]
    decoded = decode("hl7v2", encoded([row(f14="")], order="soon"))
    assert said(decoded) == [(Reason.BAD_TIME, "OBX[1]-14: OBR[1]-7")]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("\\X4d4D43\\", "MMC"),
        ("one\\.br\\two", "one\ntwo"),
        ("\\H\\bold\\N\\", "\\H\\bold\\N\\"),
        ("\\Xzz\\", "\\Xzz\\"),
        ("half\\", "half\\"),
        ("no escapes", "no escapes"),
    ],
)
def test_escapes(written: str, plain: str) -> None:
    marks = segments.Delimiters("|", "^", "~", "\\", "&")
    assert marks.plain(written) == plain
    assert marks._replace(escape="").plain(written) == written


def test_every_code_of_the_catalogue_is_known_in_every_form() -> None:
    numbers = {code for vital in VITALS for code in (vital.mdc, *vital.other_codes.values()) if code is not None}
    rhythms = set(BY_KEY["ecg_rhythm"].other_codes.values())
    panels = {vital.mdc for vital in VITALS if vital.panel}
    assert numbers - rhythms - panels <= mdc.METRICS.keys()
    for number, metric in mdc.METRICS.items():
        for form in (str(number), f"{number >> 16}::{number & 0xFFFF}", str(number & 0xFFFF)):
            coded = codes.observation((form, "", "MDC"))
            assert coded is not None
            assert coded.metric == metric
    also = {code for code, named in LOINC_ALSO.items() if not BY_KEY[named.vital].panel}
    assert {code for vital in VITALS if not vital.panel for code in vital.loinc} | also == codes.LOINC.keys()
    assert {number for number in mdc.NAMES.values() if number not in mdc.METRICS} == rhythms | {150020}


def test_a_panel_has_no_value_and_a_battery_without_a_number_is_low() -> None:
    assert not one(f3="150020^MDC_PRESS_BLD_NONINV^MDC", f5="", f2="").rejects
    (event,) = one(f3="67996^^MDC", f2="ST", f5="LOW").events
    assert (event.kind, event.detail, event.value) == (EventKind.BATTERY, "low", None)
    (event,) = one(f3="67996^^MDC", f5="35").events
    assert (event.detail, event.value) == ("level", 35.0)


def test_a_distance_that_is_no_step_count_is_an_event() -> None:
    distance = one(f3="8454247^MDC_HF_DISTANCE^MDC", f5="1250", f6="263424^MDC_DIM_M^MDC")
    assert (len(distance.batch), said(distance)) == (0, [])
    assert [(event.detail, event.value) for event in distance.events] == [
        (
            "mdc:8454247 MDC_HF_DISTANCE in mdc:263424",
            1250.0,
        )
    ]
    steps = one(f3="8454247^MDC_HF_DISTANCE^MDC", f5="1250", f6="268800^MDC_DIM_STEP^MDC")
    assert [shown["vital"] for shown in reading_rows(steps.batch)] == ["steps"]


@pytest.mark.parametrize(("shown", "ahead_s"), [("20240310210530-0400", 90.0), ("20240310200400", -3600.0)])
def test_the_devices_clock_beside_the_hubs(shown: str, ahead_s: float) -> None:
    (event,) = one(f2="DTM", f3="67975^^MDC", f5=shown).events
    assert (event.kind, event.value) == (EventKind.CONTEXT, ahead_s)


@pytest.mark.parametrize(("word", "code"), [("A", 0), ("V", 2), ("Alert", 0), ("unresponsive", 4)])
def test_level_of_responsiveness(word: str, code: int) -> None:
    assert one(f2="ST", f3="67775-7^^LN", f5=word, f6="").batch.value.tolist() == [code]


@pytest.mark.parametrize("setting", [{"obx11": "V"}, {"obx11": "V=gone"}, {"obx8": "SIM=value"}, {"battery_code": "x"}])
def test_a_setting_that_cannot_be_read_keeps_the_message(setting: dict[str, str]) -> None:
    decoded = v2.decode([message("hl7v2", CUFF)], [Context(settings=setting)])
    assert said(decoded) == [(Reason.BAD_VALUE, f"setting {next(iter(setting))}")]
    assert len(decoded.batch) == 0


def test_a_large_message_takes_time_in_proportion() -> None:
    """Two thousand rows, and text made to be slow to split."""
    random_ = random.Random(11)
    rows = [row(f1=str(n), f4=f"1.1.1.{n}", f5=f"{random_.uniform(90, 99):.1f}") for n in range(2_000)]
    payload = encoded(rows)
    assert len(decode("hl7v2", payload).batch) == 2_000
    for filler in (b"\\", b"~", b"\r", b"^", b"\x1c"):
        assert len(decode("hl7v2", payload[:1000] + filler * 100_000).batch) < 20
