"""A byte order mark, the NUL of a C string and a printed ``nan`` cost no value, whatever the adapter of texts."""

import pytest

from ingest.adapter import Context
from ingest.adapters import BUILT_IN
from tests.adapters.decoding import ADAPTERS, decode, message, shown
from tests.adapters.test_adapter_golden_cases import FOUND, load
from vitals.model import Message

TEXTS = [case for case in FOUND if next(case.glob("input.*")).suffix != ".bin"]
MARKS = [(b"\xef\xbb\xbf", b""), (b"", b"\0"), (b"", b"\0\0\0"), (b"\xef\xbb\xbf", b"\0")]


@pytest.mark.parametrize("adapter", sorted({case.parent.name for case in TEXTS}))
def test_marks_change_nothing(adapter: str) -> None:
    for case in (case for case in TEXTS if case.parent.name == adapter):
        sent, context, expected = load(case)
        for before, after in MARKS:
            marked = Message(
                sent.device, sent.adapter, sent.kind, sent.received_ns, before + sent.payload + after,
                ordinal=sent.ordinal,
            )  # fmt: skip
            found = shown(ADAPTERS[adapter].decode([marked], [context]))
            assert found["readings"] == expected["readings"], (case.name, before, after)


def test_text_adapters_take_part() -> None:
    names = {case.parent.name for case in TEXTS}
    assert names >= {"json", "fhir", "omh", "dexcom", "nightscout", "withings", "fitbit", "ihealth", "clarity"}
    assert names <= {*BUILT_IN}


@pytest.mark.parametrize("word", ["nan", "NaN", "NAN", "-nan", "inf", "-Infinity"])
def test_a_printed_nan_costs_its_own_value_alone(word: str) -> None:
    good = b'{"vital":"spo2","value":71,"unit":"%","time":1710072000000}'
    bad = b'{"vital":"temp","value":' + word.encode() + b',"unit":"Cel","time":1710072000000}'
    decoded = decode("json", b"[" + good + b"," + bad + b"]")
    assert decoded.batch.value.tolist() == [71.0]
    assert len(decoded.rejects) == 1


def test_a_nan_beside_a_value_of_a_vendor_is_left_out() -> None:
    payload = b'[{"type":"sgv","sgv":52,"date":1710072000000,"noise":nan,"rssi":NaN}]'
    decoded = ADAPTERS["nightscout"].decode([message("nightscout", payload, "entries")], [Context()])
    assert decoded.batch.value.tolist() == [52.0]
    assert (list(decoded.rejects), decoded.left_out) == ([], 2)
