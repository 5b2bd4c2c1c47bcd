"""Files to payloads: every container, block boundaries at every byte, and files that break off."""

import io
import json
import re
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.files import splitting
from ingest.files.json_splitting import JsonRecords
from ingest.files.splitting import CsvRows, Hl7Messages, Packets, Source, Splitter, open_source
from ingest.files.xml_splitting import XmlRecords
from vitals.errors import InvalidRequest

HEALTH = XmlRecords("HealthData", ("Record", "Correlation"), "export.xml")
XML = """<?xml version="1.0"?>
<!DOCTYPE HealthData [ <!ELEMENT HealthData (Record)*> <!ATTLIST HealthData locale ]>
<HealthData locale="de">
 <ExportDate value="x"/>
 <Record a="1>" s="Zoë’s ⌚"/>
 <!-- between -->
 <Record b="2"><MetadataEntry key="k" value="&lt;"/></Record>
 <Workout><Record not="direct"/></Workout>
 <Correlation><Record c="3"/><Record c="4"/></Correlation>
</HealthData>
""".encode()
XML_RECORDS = [
    '<Record a="1>" s="Zoë’s ⌚"/>',
    '<Record b="2"><MetadataEntry key="k" value="&lt;"/></Record>',
    '<Correlation><Record c="3"/><Record c="4"/></Correlation>',
]
CSV = '\ufeffname,note\r\n1,"a ⌚\nb"\r\n\r\n2,"say ""x"""\r\n3,z'.encode()
HL7 = b"FHS|^~\\&|x\rBHS|^~\\&|x\rMSH|^~\\&|1\rPID|1\rOBX|1\r\nMSH|^~\\&|2\nPID|2\nBTS|1\rFTS|1\r"
LIST = '{"unit":0,"body":{"zone":"Zürich","list":[{"v":"⌚"},{"v":[1,{"x":"]}"}]},\n{"v":-2.5e3}],"late":"m"},"n":1}'
NDJSON = '{"v":1}\r\n{"v":"⌚"}\n\n[{"v":3},{"v":4}]\n{"v":5}\n'
GATT = b"# meter\n2a18 0b 0e:00-E7\r\n\n0x2A5E 167b0058\n2a37 00\n"


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, first ``first`` of them."""

    def __init__(self, data: bytes, first: int, then: int = 1 << 20) -> None:
        super().__init__(data)
        self._sizes = [first]
        self._then = then

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._sizes.pop() if self._sizes else self._then)


def split(splitter: Splitter, data: bytes, limit: int = 1000, stream: io.BytesIO | None = None) -> tuple[
    list[bytes], list[str]
]:  # fmt: skip
    """(payloads, problems) of a file."""
    source = Source(stream or io.BytesIO(data), len(data))
    pieces = list(splitter.pieces(source, limit, "k"))
    assert all(0 < len(piece.payload) <= limit for piece in pieces)
    assert all(piece.records >= 1 for piece in pieces)
    assert [piece.read for piece in pieces] == sorted(piece.read for piece in pieces)
    assert source.problems >= len(source.named)
    return [piece.payload for piece in pieces], source.named


CONTAINERS: dict[str, tuple[Splitter, bytes]] = {
    "xml": (HEALTH, XML),
    "csv": (CsvRows(), CSV),
    "hl7": (Hl7Messages(), HL7),
    "list": (JsonRecords(("body", "list")), LIST.encode()),
    "ndjson": (JsonRecords(("readings",)), NDJSON.encode()),
    "gatt": (Packets(), GATT),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_blocks_may_end_at_every_byte(name: str) -> None:
    splitter, data = CONTAINERS[name]
    for limit in (150, 1000):
        whole = split(splitter, data, limit)
        assert whole[0]
        assert not whole[1]
        for first in range(1, len(data)):
            assert split(splitter, data, limit, Dribble(data, first)) == whole, first
        assert split(splitter, data, limit, Dribble(data, 1, 1)) == whole
        assert split(splitter, data, limit, Dribble(data, 3, 7)) == whole


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_cut_at_any_byte_gives_what_is_before_the_cut(name: str) -> None:
    splitter, data = CONTAINERS[name]
    known = "\n".join(XML_RECORDS).encode()
    most = 0
    for length in range(len(data)):
        payloads, problems = split(splitter, data[:length], 150)
        most = max(most, len(payloads))
        if name in {"xml", "list"} and 0 < length < len(data.rstrip()) - len(b"</HealthData>"):
            assert problems, length
        if name == "xml":
            assert all(line in known for payload in payloads for line in payload.splitlines()[1:-1])
    assert most == len(split(splitter, data, 150)[0])


@pytest.mark.parametrize("name", CONTAINERS)
@settings(max_examples=60)
@given(data=st.data())
def test_no_bytes_make_it_raise(name: str, data: st.DataObject) -> None:
    splitter, good = CONTAINERS[name]
    noise = data.draw(st.binary(max_size=40))
    at = data.draw(st.integers(0, len(good)))
    split(splitter, noise)
    split(splitter, good[:at] + noise + good[at:], 120)


def test_xml_records_are_cut_out_as_they_are() -> None:
    payloads, problems = split(HEALTH, XML, 40 + max(len(text.encode()) for text in XML_RECORDS))
    assert [payload.decode() for payload in payloads] == [
        f"<HealthData>\n{text}\n</HealthData>\n" for text in XML_RECORDS
    ]
    assert not problems
    (together,), _ = split(HEALTH, XML)
    assert b"Workout" not in together
    assert b"DOCTYPE" not in together


def test_an_xml_file_that_breaks_off_keeps_its_last_whole_record() -> None:
    for cut in (b'<Record b="2"><Meta', b'<Record b="2', b"<!-- betw"):
        data = XML[: XML.index(cut) + len(cut)]
        payloads, (problem,) = split(HEALTH, data)
        assert 'a="1>"' in payloads[0].decode()
        assert b'b="2"' not in b"".join(payloads)
        assert ": not XML at byte " in problem
        assert problem.endswith("left out")


@pytest.mark.parametrize("text", ["", "no XML at all", "<Other/>", "<HealthDatabase/>", "<!DOCTYPE HealthData>"])
def test_a_file_without_the_root_element_gives_nothing(text: str) -> None:
    payloads, (problem,) = split(HEALTH, text.encode())
    assert payloads == []
    assert problem.startswith("no element HealthData")


def test_an_entity_of_the_document_type_costs_its_record() -> None:
    bomb = b'<!DOCTYPE HealthData [<!ENTITY a "ha">]><HealthData><Record a="1"/><Record a="&a;"/><Record/></HealthData>'
    payloads, (problem,) = split(HEALTH, bomb)
    assert payloads == [b'<HealthData>\n<Record a="1"/>\n<Record/>\n</HealthData>\n']
    at = bomb.index(b'<Record a="&a;"')
    assert problem == f"line 1: not XML at byte {at}; left out"


def test_a_huge_element_is_skipped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MAX_ELEMENT", 4096)
    data = b"<HealthData><Record a='1'/><Record>" + b"<M/>" * 100_000 + b"</Record><Record a='3'/></HealthData>"
    payloads, (problem,) = split(HEALTH, data, stream=Dribble(data, 100, 100))
    assert b"a='1'" in payloads[0]
    assert b"a='3'" in payloads[-1]
    assert problem == "line 1: over 4096 bytes; left out"
    endless = b"<HealthData><Record a='1'/><Record a='" + b"x" * 100_000
    payloads, problems = split(HEALTH, endless, stream=Dribble(endless, 100, 100))
    assert len(payloads) == 1
    assert problems[-1] == "line 1: no end within 4096 bytes; the rest is left out"


def test_a_record_that_does_not_fit_is_said_and_its_neighbours_stay() -> None:
    for splitter, data in (
        (CsvRows(), b"h\n1\n" + b"2" * 300 + b"\n3\n"),
        (JsonRecords(), b'["1","' + b"2" * 300 + b'","3"]'),
        (HEALTH, b"<HealthData><Record a='1'/><Record b='" + b"2" * 300 + b"'/><Record c='3'/></HealthData>"),
        (Hl7Messages(), b"MSH|1\rMSH|2\r" + b"OBX|%s\r" % (b"2" * 90) * 3 + b"MSH|3\r"),
        (Packets(), b"2a18 01\n2a18 " + b"22" * 300 + b"\n2a18 03\n"),
    ):
        payloads, problems = split(splitter, data, 150)
        text = b"".join(payloads)
        assert len(problems) == 1, splitter
        assert b"2222" not in text
        for kept in (b"1", b"3") if not isinstance(splitter, Packets) else (b"\x01", b"\x03"):
            assert kept in text


def test_csv_repeats_its_header_and_keeps_quoted_line_ends() -> None:
    payloads, _ = split(CsvRows(), CSV, 30)
    assert [payload.decode() for payload in payloads] == [
        'name,note\n1,"a ⌚\nb"\n',
        'name,note\n2,"say ""x"""\n3,z\n',
    ]


def test_a_stray_quote_costs_one_row() -> None:
    payloads, problems = split(CsvRows(), b'h,i\n1,"a\n2,b\n3,"c"\n4,d\n', 20)
    assert problems == ["line 2: a quoted cell has no end"]
    text = b"".join(payloads)
    assert all(row in text for row in (b"2,b", b'3,"c"', b"4,d"))


def test_hl7_messages_begin_at_msh_and_lose_their_batch_headers() -> None:
    payloads, _ = split(Hl7Messages(), b"\x0b" + HL7 + b"\x1c\r")
    assert payloads == [b"MSH|^~\\&|1\rPID|1\rOBX|1\r", b"MSH|^~\\&|2\rPID|2\r"]


@pytest.mark.parametrize(
    ("splitter", "data"), [(CsvRows(), CSV), (Hl7Messages(), HL7), (Packets(), GATT)], ids=["csv", "hl7", "packets"]
)
def test_the_end_of_a_c_string_behind_a_file_is_no_part_of_it(splitter: Splitter, data: bytes) -> None:
    assert split(splitter, data + b"\0\0") == split(splitter, data)


def test_packets_have_their_kind() -> None:
    source = Source(io.BytesIO(GATT + b"2a18 xyz\nnothing\n12345678 00\n"), 0)
    found = [(piece.kind, piece.payload) for piece in Packets().pieces(source, 512, "")]
    assert found == [("2a18", b"\x0b\x0e\x00\xe7"), ("2a5e", b"\x16\x7b\x00\x58"), ("2a37", b"\x00")]
    assert source.named == [f"line {number}: no characteristic and packet in hex" for number in (6, 7, 8)]


def test_a_list_is_cut_and_what_stands_around_it_repeated() -> None:
    payloads, problems = split(JsonRecords(("body", "list")), LIST.encode(), 90)
    assert not problems
    documents = [json.loads(payload) for payload in payloads]
    assert len(documents) > 1
    whole = json.loads(LIST)
    assert [item for one in documents for item in one["body"].pop("list")] == whole["body"].pop("list")
    assert all(one == whole for one in documents)


def test_values_of_the_top_level() -> None:
    readings = JsonRecords(("readings",))
    assert split(readings, NDJSON.encode())[0] == [
        '[{"v":1},{"v":"⌚"}]'.encode(), b'[{"v":3},{"v":4}]', b'[{"v":5}]',
    ]  # fmt: skip
    assert split(readings, b'{"readings":[1,2],"a":1}')[0] == [b'{"readings":[1,2],"a":1}']
    assert split(JsonRecords(array=False), b"[1,2]\n3")[0] == [b"1", b"2", b"3"]
    assert split(readings, b" \n")[0] == []


def test_an_element_that_does_not_fit_is_cut_along_its_own_list() -> None:
    metrics = {"data": {"metrics": [{"name": "hr", "units": "/min", "data": [{"q": n} for n in range(50)]}, {"n": 2}]}}
    payloads, problems = split(JsonRecords(("data", "metrics"), inner="data"), json.dumps(metrics).encode(), 200)
    assert not problems
    found = [metric for payload in payloads for metric in json.loads(payload)["data"]["metrics"]]
    assert [item for metric in found for item in metric.get("data", ())] == metrics["data"]["metrics"][0]["data"]
    assert {metric.get("units") for metric in found} == {"/min", None}


@pytest.mark.parametrize(
    ("text", "kept", "said"),
    [
        ("[1, 2, x]", [b"[1,2]"], "value 3: not JSON; left out"),
        ("[1 2]", [b"[1]"], "value 1: not JSON behind it"),
        ('{"v":1}\n{"v":', [b'[{"v":1}]'], "value 2: not JSON; the rest is left out"),
        ("[" * 200_000, [], "value 1: nested too deeply; the rest is left out"),
    ],
)
def test_broken_json_keeps_what_was_good(text: str, kept: list[bytes], said: str) -> None:
    payloads, problems = split(JsonRecords(), text.encode())
    assert payloads == kept
    assert problems == [said]


GOOD_AROUND = "one", "three"


@pytest.mark.parametrize(
    "bad",
    [
        '{"v":"a\x0bb"}',
        '{"v":tw}', '{"v":"two}', '{"v":[1,}', '{"v":1}}', '{"v":"\udcff"}', '{"v" 2}', "two", "}", '"',
        '{"v":{"w":[1,2,{"x":}]}}', "{,}", "[1,[2,]]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["list", "inside", "lines", "lines of readings"])
def test_a_bad_value_is_skipped_and_its_neighbours_stay(bad: str, shape: str) -> None:
    one, three = (json.dumps({"v": word}, separators=(",", ":")) for word in GOOD_AROUND)
    text, splitter = {
        "list": (f"[{one}, {bad},\n {three}]", JsonRecords()),
        "inside": (f'{{"unit":1,"list":[{one},{bad},\n{three}],"n":{"9" * 200}}}', JsonRecords(("list",))),
        "lines": (f"{one}\n{bad}\n{three}\n", JsonRecords()),
        "lines of readings": (f"{one}\n{bad}\n{three}\n", JsonRecords(("readings",))),
    }[shape]
    data = text.encode("utf-8", "surrogateescape")
    payloads, problems = split(splitter, data, 350)
    joined = b"".join(payloads)
    assert all(f'"{word}"'.encode() in joined for word in GOOD_AROUND), (payloads, problems)
    assert problems
    assert all(re.match("value [123]: not ", problem) for problem in problems), problems
    for first in range(1, len(data)):
        assert split(splitter, data, 350, Dribble(data, first, 3)) == (payloads, problems), first


BROKEN_RECORDS = {
    "a control character by its number": b"<Record s='W&#11;x' v='2'/>",
    "no closing quote": b"<Record s='W v='2'/>",
    "no quote to the end": b"<Record s='W/>",
    "no end": b"<Record s='2'>",
    "an element in it without an end": b"<Record s='2'><M></Record>",
    "an attribute twice": b"<Record s='2' s='2'/>",
    "an entity": b"<Record s='&x;'/>",
    "no UTF-8": b"<Record s='\xff'/>",
    "a lone ampersand": b"<Record s='a & b'/>",
    "of other things": b"<Workout s='<'/>",
    "text with a bracket": b"<Record s='2'/> < ",
}


@pytest.mark.parametrize("name", BROKEN_RECORDS)
def test_a_broken_record_is_skipped_and_its_neighbours_stay(name: str) -> None:
    bad = BROKEN_RECORDS[name]
    data = (
        b"<HealthData>\n<Record s='1'/>\n"
        + bad
        + b"\n<Record s='3'/>\n<!-- c -->\n<Record s='4'>\n</Record>\n</HealthData>"
    )
    payloads, problems = split(HEALTH, data)
    joined = b"".join(payloads)
    assert all(f"s='{n}'".encode() in joined for n in (1, 3, 4)), payloads
    assert len(problems) == 1
    assert re.fullmatch(r"line [34]: not XML at byte \d+; left out", problems[0])
    for first in range(1, len(data)):
        assert split(HEALTH, data, 1000, Dribble(data, first, 5)) == (payloads, problems), first
    last = b"<HealthData>\n<Record s='1'/>\n" + bad + b"\n</HealthData>"
    assert b"s='1'" in b"".join(split(HEALTH, last)[0])


def test_a_control_character_in_a_name_is_a_space() -> None:
    names = "".join(map(chr, range(1, 32)))
    payloads, problems = split(HEALTH, f"<HealthData><Record s='a{names}b' v='2'/></HealthData>".encode())
    assert not problems
    spaces = "".join(name if name in "\t\n\r" else " " for name in names)
    assert payloads == [f"<HealthData>\n<Record s='a{spaces}b' v='2'/>\n</HealthData>\n".encode()]


def test_of_a_broken_correlation_the_records_stay() -> None:
    data = b"""<HealthData>
<Correlation>
<Record s='1'/>
<Record s='&x;'/>
<Record s='3'/>
</Correlation>
<Record s='4'/>
</HealthData>"""
    payloads, problems = split(HEALTH, data)
    assert [b"s='%d'" % n in payloads[0] for n in (1, 3, 4)] == [True] * 3
    at = data.index(b"<Record s='&x;'")
    assert problems == [f"line 2: not XML at byte {at}; left out"]


def test_many_broken_records_cost_themselves() -> None:
    data = b"<HealthData>" + b"<Record s='1'/>\n<Record s='&x;'/>\n" * 3000 + b"</HealthData>"
    source = Source(io.BytesIO(data), len(data))
    pieces = list(HEALTH.pieces(source, 1000, "k"))
    assert sum(piece.records for piece in pieces) == source.problems == 3000
    text = '{"v":1}\n{"v":\n' * 3000 + '{"v":2}'
    source = Source(io.BytesIO(text.encode()), len(text))
    pieces = list(JsonRecords().pieces(source, 1000, "k"))
    assert (sum(piece.records for piece in pieces), source.problems) == (3001, 3000)


@pytest.mark.parametrize("name", CONTAINERS)
def test_pieces_name_the_places_of_their_records(name: str) -> None:
    splitter, data = CONTAINERS[name]
    together = list(splitter.pieces(Source(io.BytesIO(data), len(data)), 1000, "k"))
    alone = list(splitter.pieces(Source(io.BytesIO(data), len(data)), 1000, "k", alone=True))
    assert sum(piece.records for piece in together) == sum(piece.records for piece in alone)
    places = [piece.first for piece in alone]
    assert places == [piece.last for piece in alone] == sorted(places)
    assert (together[0].first, together[-1].last) == (places[0], places[-1])
    assert splitter.place in {"line", "segment", "value"}


def _megabytes(name: str) -> tuple[Splitter, bytes, bytes, bytes]:
    match name:
        case "xml":
            return HEALTH, b"<HealthData>", b"<Record a='0123456789'/>\n" * 40, b"</HealthData>"
        case "csv":
            return CsvRows(), b"h\n", b"0123456789\n" * 100, b""
        case "hl7":
            return Hl7Messages(), b"FHS|\r", b"MSH|0123456789\rOBX|1\r" * 50, b""
        case _:
            return JsonRecords(("list",)), b'{"list":[', b'{"v":"0123456789"},' * 50, b'0],"unit":1}'


class _Long(io.RawIOBase):
    """``head``, ``middle`` many times, ``tail``, without holding them."""

    def __init__(self, head: bytes, middle: bytes, times: int, tail: bytes) -> None:
        super().__init__()
        self._parts, self._at = (head, middle, times, tail), 0

    def read(self, size: int | None = -1, /) -> bytes:
        head, middle, times, tail = self._parts
        self._at += 1
        return head if self._at == 1 else middle if self._at <= times + 1 else tail if self._at == times + 2 else b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = 0
        return 0


@pytest.mark.parametrize("name", ["xml", "csv", "hl7", "list"])
def test_memory_does_not_grow_with_the_file(name: str) -> None:
    splitter, head, middle, tail = _megabytes(name)
    with _Long(head, middle, 5000, tail) as stream:
        source = Source(stream, 0)  # type: ignore[arg-type]
        tracemalloc.start()
        try:
            count = sum(len(piece.payload) for piece in splitter.pieces(source, 64 * 1024, ""))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count > 3_000_000
    assert peak < 1_500_000
    assert not source.problems


def test_an_archive_is_read_without_unpacking_it(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("apple_health_export/export_cda.xml", "<x/>")
        archive.writestr("apple_health_export/Export.xml", XML)
    with open_source(path, "export.xml") as source:
        assert source.size == len(XML)
        assert [piece.payload for piece in HEALTH.pieces(source, 1000, "")] == split(HEALTH, XML)[0]
    with pytest.raises(InvalidRequest, match=r"0 files other\.xml"), open_source(path, "other.xml"):
        pass
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidRequest, match="no archive that can be read"), open_source(path, "export.xml"):
        pass
    with pytest.raises(InvalidRequest, match="No such file"), open_source(tmp_path / "none"):
        pass


def test_a_damaged_archive_gives_what_is_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    records = "".join(f"<Record n='{number * 7919 % 100_003}'/>\n" for number in range(60_000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export.xml", f"<HealthData>{records}</HealthData>")
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 64] = bytes(64)
    path.write_bytes(damaged)
    with open_source(path, "export.xml") as source:
        found = sum(piece.records for piece in HEALTH.pieces(source, 10_000, ""))
        assert 0 < found < 60_000
        assert source.problems >= 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_rows_of_utf_16_become_utf_8(encoding: str) -> None:
    text = "a;\u00fcber\r\n" + "".join(f"{number};\u20ac\n" for number in range(9_000))
    mark = "" if encoding == "utf-16" else "\ufeff"
    payloads, problems = split(CsvRows(), (mark + text).encode(encoding), 100_000)
    assert not problems
    assert b"".join(payloads).decode() == text.replace("\r\n", "\n")
