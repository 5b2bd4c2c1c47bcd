"""The CGM export: the whole sample file, and rows that are not what they should be."""

import json

import numpy as np
import pytest

from ingest.adapter import SourceClock
from ingest.adapters.documents import clarity
from tests.adapters.decoding import assert_sound, decode, decode_all, iso, message, reading_rows
from tests.support import FIXTURES
from vitals.glossary import Flag, Reason

SAMPLE = (FIXTURES / "cgm" / "clarity.csv").read_bytes()
EXPECTED = json.loads((FIXTURES / "cgm" / "expected.json").read_text())
HEADER = SAMPLE.split(b"\n")[0] + b"\n"
NO_WORD = "glucose: no number, and no word of the settings low_word and high_word"
ROW = b"1,2024-03-10T08:00:00,EGV,,,,x,101,,,,\n"


def chunks(rows_each: int) -> list[bytes]:
    header, *rows = SAMPLE.splitlines(keepends=True)
    return [header + b"".join(rows[start : start + rows_each]) for start in range(0, len(rows), rows_each)]


def test_the_whole_sample() -> None:
    decoded = decode("clarity", SAMPLE)
    batch, expected, file = decoded.batch, EXPECTED["expected"], EXPECTED["file"]
    assert not decoded.rejects
    assert not decoded.events
    assert len(batch) == expected["n"] == 2148
    values = batch.value
    for figure, name in (
        (values.mean(), "mean_mg_dl"),
        (np.median(values), "median_mg_dl"),
        (values.min(), "min_mg_dl"),
        (values.max(), "max_mg_dl"),
        (np.percentile(values, 25), "q1_mg_dl"),
        (np.percentile(values, 75), "q3_mg_dl"),
        (np.percentile(values, 5), "p5_mg_dl"),
        (np.percentile(values, 95), "p95_mg_dl"),
        (values.std(ddof=1), "sd_n_minus_1_mg_dl"),
        (values.std(), "sd_n_mg_dl"),
    ):
        assert float(figure) == pytest.approx(expected[name], rel=1e-9), name
    assert (iso(int(batch.source_time_ns[0])), iso(int(batch.source_time_ns[-1]))) == (
        file["first_time"],
        file["last_time"],
    )
    assert (values[0], values[-1]) == (file["first_value"], file["last_value"])
    assert set(batch.clock.tolist()) == {SourceClock.WALL}
    assert set(batch.seq.tolist()) == {0}
    gaps = np.diff(batch.source_time_ns) / 1e9
    assert (gaps.min(), gaps.max()) == (file["interval_s_min"], file["interval_s_max"])


def test_nothing_of_the_metadata_is_in_anything_returned() -> None:
    spoiled = SAMPLE + b"3000,not a time Joe,EGV,,Schmoe,,1/1/1970,Joe,,,,\nJoe,Schmoe\n"
    for payload in (SAMPLE, spoiled):
        decoded = decode("clarity", payload)
        said = repr(decoded.rejects) + repr(decoded.events) + repr(dict(decoded.batch.context))
        for secret in ("Joe", "Schmoe", "1970", "iPhone", "Dexcom"):
            assert secret not in said
    assert [reject.detail for reject in decoded.rejects] == ["row 2160: timestamp; 1 more"]
    assert len(decoded.batch) == 2148


@pytest.mark.parametrize("rows_each", [1, 100, 2000])
def test_chunks_give_the_same_readings_as_the_file(rows_each: int) -> None:
    parts = [message("clarity", part, ordinal=number) for number, part in enumerate(chunks(rows_each))]
    assert all(len(part.payload) <= clarity.ADAPTER.max_payload for part in parts)
    together, whole = decode_all(parts).batch, decode("clarity", SAMPLE).batch
    assert together.source_time_ns.tolist() == whole.source_time_ns.tolist()
    assert together.value.tolist() == whole.value.tolist()


def test_the_whole_sample_fits_the_payload_limit_and_the_limit_the_packet_limit() -> None:
    assert len(SAMPLE) < clarity.ADAPTER.max_payload == 255 * 1024


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("unit", ["mg/dL", "mmol/L"])
def test_headers_marks_and_line_ends(unit: str, mark: bytes, end: bytes) -> None:
    header = HEADER.removeprefix(b"\xef\xbb\xbf").strip().replace(b"Value (mg/dL)", f"Value ({unit})".encode())
    decoded = decode("clarity", mark + header + end + ROW.strip() + end + end)
    (row,) = reading_rows(decoded.batch)
    assert not decoded.rejects
    assert (row["value"], row["unit"], row["source_time"]) == (101.0, unit, "2024-03-10T08:00:00")


def test_columns_are_found_by_name() -> None:
    header = b'Glucose Value (mmol/L),x,Event Type,"Timestamp (YYYY-MM-DDThh:mm:ss)"\n'
    payload = header + b'5.5,"a ""b"", c",EGV,2024-03-10T08:00:00\n'
    (row,) = reading_rows(decode("clarity", payload).batch)
    assert (row["value"], row["unit"]) == (5.5, "mmol/L")


@pytest.mark.parametrize(
    ("text", "flag"),
    [("Low", Flag.BELOW_RANGE), ("High", Flag.ABOVE_RANGE), ("LOW", Flag.BELOW_RANGE), ("high", Flag.ABOVE_RANGE)],
)
def test_low_and_high_are_readings_without_a_number(text: str, flag: Flag) -> None:
    decoded = decode("clarity", HEADER + ROW.replace(b"101", text.encode()))
    assert np.isnan(decoded.batch.value).tolist() == [True]
    assert decoded.batch.flags.tolist() == [int(flag)]
    assert not decoded.rejects


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (ROW.replace(b"101", b""), Reason.MISSING_FIELD, "glucose"),
        (ROW.replace(b"101", b"nan"), Reason.BAD_VALUE, NO_WORD),
        (ROW.replace(b"101", "tr\u00e8s bas".encode()), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"101", b"Niedrig"), Reason.BAD_VALUE, NO_WORD),
        (ROW.replace(b"101", b"-101"), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"101", b"1_01"), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"101", b'"5,678"'), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"101", b"1e400"), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"101", "١٠١".encode()), Reason.BAD_VALUE, "glucose"),
        (ROW.replace(b"2024-03-10T08:00:00", b""), Reason.BAD_TIME, "timestamp"),
        (ROW.replace(b"2024-03-10T", b"2024-03-10 "), Reason.BAD_TIME, "timestamp"),
        (ROW.replace(b"08:00:00", b"08:00:00Z"), Reason.BAD_TIME, "timestamp"),
        (ROW.replace(b"03-10", b"02-30"), Reason.BAD_TIME, "timestamp"),
        (ROW.replace(b"2024", b"1600"), Reason.BAD_TIME, "timestamp"),
        (ROW[:-5] + b"\n", Reason.MALFORMED, "8 cells, the header has 12"),
        (ROW[:-1] + b",\n", Reason.MALFORMED, "13 cells, the header has 12"),
        (ROW.replace(b",x,", b',"x"y,'), Reason.MALFORMED, "not CSV"),
        (ROW.replace(b",x,", b"," + b"x" * 140_000 + b","), Reason.MALFORMED, "not CSV"),
    ],
)
def test_a_bad_row_is_named_and_its_neighbours_stay(row: bytes, reason: Reason, detail: str) -> None:
    decoded = decode("clarity", HEADER + ROW + row + ROW)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, f"row 2: {detail}")]
    assert decoded.batch.value.tolist() == [101.0, 101.0]


def test_an_unclosed_quote_never_loses_rows_in_silence() -> None:
    decoded = decode("clarity", HEADER + ROW + ROW.replace(b",x,", b',"x,') + ROW * 3)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(Reason.MALFORMED, "row 2: not CSV")]
    assert decoded.batch.value.tolist() == [101.0]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"\xef\xbb\xbf", Reason.MISSING_FIELD),
        (b"\n", Reason.MISSING_FIELD),
        (ROW, Reason.MISSING_FIELD),
        (HEADER.replace(b"Timestamp (YYYY-MM-DDThh:mm:ss)", b"Timestamp"), Reason.MISSING_FIELD),
        (HEADER.replace(b"Event Type", b"Type"), Reason.MISSING_FIELD),
        (HEADER.replace(b"Glucose Value (mg/dL)", b"Glucose Value"), Reason.MISSING_FIELD),
        (HEADER.replace(b"Event Subtype", b"Event Type"), Reason.AMBIGUOUS_ENCODING),
        (HEADER.replace(b"Event Subtype", b"Glucose Value (mmol/L)"), Reason.AMBIGUOUS_ENCODING),
        (b'"Index', Reason.MALFORMED),
        (HEADER + b"\xff\xfe", Reason.MALFORMED),
        (SAMPLE.decode("utf-8-sig").encode("utf-16-le"), Reason.MISSING_FIELD),
        (b"\x00" * (1 << 20), Reason.MISSING_FIELD),
    ],
)
def test_a_payload_without_a_usable_header(payload: bytes, reason: Reason) -> None:
    decoded = decode("clarity", payload)
    assert [reject.reason for reject in decoded.rejects] == [reason]
    assert not len(decoded.batch)


def test_a_header_alone_is_an_empty_part() -> None:
    decoded = decode("clarity", HEADER)
    assert not decoded.rejects
    assert not len(decoded.batch)


def test_an_unknown_kind() -> None:
    assert [reject.reason for reject in decode("clarity", SAMPLE, "egvs").rejects] == [Reason.UNKNOWN_KIND]


def test_cut_at_every_byte_it_gives_whole_rows_or_says_so() -> None:
    whole = HEADER + b"1,,FirstName,,Joe,,,,,,,\n" + ROW + ROW.replace(b"08:00", b"08:05").replace(b"101", b"102.5")
    good = reading_rows(decode("clarity", whole).batch)
    batch = [message("clarity", whole[:length]) for length in range(len(whole))]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    rejected = {reject.message for reject in decoded.rejects}
    rows = reading_rows(decoded.batch)
    for length in range(len(whole)):
        mine = [row for row, number in zip(rows, decoded.batch.message.tolist(), strict=True) if number == length]
        assert mine == good[: len(mine)]
        line_is_whole = whole[:length].endswith(b"\n") or whole[length : length + 1] == b"\n"
        if length < len(HEADER):
            assert not mine
        else:
            assert length in rejected or line_is_whole


GERMAN = {
    "timestamp_column": "Zeit", "event_type_column": "Art", "glucose_column": "Zucker", "reading_word": "Messung",
    "low_word": "Tief", "high_word": "Über",
}  # fmt: skip
"""Made up: the words of a real export belong into the settings of the device."""


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_an_export_in_another_language_is_read_with_the_words_of_the_settings(delimiter: str) -> None:
    rows = [
        ("Zeit", "Art", " ZUCKER  (mmol/l)"), ("2024-03-10T08:00:00", "Messung", "5,6"),
        ("2024-03-10T08:05:00", "Alarm", "3,9"), ("2024-03-10T08:10:00", "messung", "über"),
        ("2024-03-10T08:15:00", "Messung", "tief"), ("2024-03-10T08:20:00", "Messung", "5.7"),
    ]  # fmt: skip
    text = "".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    decoded = decode("clarity", text.encode(), **GERMAN)
    assert not decoded.rejects
    found = reading_rows(decoded.batch)
    assert [row["value"] for row in found] == [5.6, None, None, 5.7]
    assert [row["flags"] for row in found] == [[], ["above_range"], ["below_range"], []]
    assert {row["unit"] for row in found} == {"mmol/L"}
    (reject,) = decode("clarity", text.encode()).rejects
    assert reject.reason is Reason.MISSING_FIELD


def test_a_decimal_comma_without_quotes_is_no_cell() -> None:
    header = "Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Glucose Value (mmol/L)\n"
    decoded = decode("clarity", f"{header}2024-03-10T08:00:00,EGV,5,6\n".encode())
    assert [reject.detail for reject in decoded.rejects] == ["row 1: 4 cells, the header has 3"]
    assert not len(decoded.batch)


def test_bytes_that_are_no_text_cost_a_row_only_where_they_are_read() -> None:
    decoded = decode("clarity", HEADER + ROW.replace(b",x,", b",\xff,") + ROW.replace(b"101", b"10\xff") + ROW)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(Reason.BAD_VALUE, "row 2: glucose")]
    assert decoded.batch.value.tolist() == [101.0, 101.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_an_export_is_read_in_its_encoding(encoding: str) -> None:
    text = "Zeit;Art;Zucker (mmol/L);Ger\u00e4t\r\n2024-03-10T08:00:00;Messung;\u00dcber;M\u00fcller\r\n"
    decoded = decode("clarity", text.encode(encoding), **GERMAN)
    assert not decoded.rejects
    assert [row["flags"] for row in reading_rows(decoded.batch)] == [["above_range"]]


def test_words_that_are_not_known_name_their_settings() -> None:
    header = "Zeit;Art;Zucker (mmol/L)\n"
    rows = "".join(f"2024-03-10T08:{minute:02}:00;Messung;5,6\n" for minute in range(0, 60, 5))
    for name, detail in (
        (
            "timestamp_column",
            "header: 0 columns 'Timestamp (YYYY-MM-DDThh:mm:ss)': setting timestamp_column has its name",
        ),
        ("glucose_column", "header: 0 columns 'Glucose Value': setting glucose_column has its name"),
        ("reading_word", "no row is a reading: setting reading_word has their kind"),
    ):
        known = {key: word for key, word in GERMAN.items() if key != name}
        (reject,) = decode("clarity", (header + rows).encode(), **known).rejects
        assert reject.detail == detail
    assert len(decode("clarity", (header + rows).encode(), **GERMAN).batch) == 12


def test_a_payload_of_alerts_alone_is_no_export_of_another_language() -> None:
    alerts = ROW.replace(b"EGV", b"Alert").replace(b"2024-03-10T08:00:00", b"") * 40
    assert not decode("clarity", HEADER + alerts).rejects
