"""Facets of alarms in ORU^R40, in the forms that devices send (interop.md 2.3)."""

import pytest

from ingest.adapter import Alarm, Context, Decoded
from tests.adapters.decoding import ADAPTERS
from vitals.catalog import BY_CODE
from vitals.glossary import EventKind
from vitals.model import Message
from vitals.times import MINUTE_NS, NO_TIME

NOW = 1_767_598_200_000_000_000
"""2026-01-05T07:30:00Z."""
EVENT = "196670^MDC_EVT_LO_VAL^MDC"


def decode(*rows: str, stamp: str = "20260105083000+0100", order: str = "al_01", group: str = "196616^^MDC") -> Decoded:
    """``rows`` are OBX from their second field on."""
    lines = [f"MSH|^~\\&|MON|W|||{stamp}||ORU^R40^ORU_R40|1|P|2.6", f"OBR|1|{order}|{order}|{group}|||",
             *(f"OBX|{number}|{row}" for number, row in enumerate(rows, 1))]  # fmt: skip
    message = Message("mon", "hl7v2", "oru_r40", NOW, "\r".join([*lines, ""]).encode(), ordinal=7)
    return ADAPTERS["hl7v2"].decode([message], [Context()])


def alarm(*rows: str, **parts: str) -> Alarm:
    decoded = decode(*rows, **parts)
    assert not decoded.rejects
    [found] = decoded.alarms
    return found


def test_the_worked_message() -> None:
    found = alarm(
        f"ST|{EVENT}|1.3.1.150456.1|SpO2 low 84 %|||L~PH~SP|||R|||20260105082900+0100",
        "NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1.150456.2|84|262688^MDC_DIM_PERCENT^MDC|88-92|L|||R",
        "ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.3.1.150456.3|start||||||R",
        "ST|68482^MDC_ATTR_ALARM_STATE^MDC|1.3.1.150456.4|active||||||R",
        "ST|68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC|1.3.1.150456.5|enabled||||||R",
    )
    assert (found.label, found.priority, found.ends, found.instant) == (
        "mdc:196670 MDC_EVT_LO_VAL", "high", False, False,
    )  # fmt: skip
    assert (BY_CODE[found.vital].key, found.value, found.time_ns) == ("spo2", 84.0, NOW - MINUTE_NS)


@pytest.mark.parametrize(
    ("rows", "vital", "value"),
    [
        (["NM|150456^^MDC|1.3.1.150456.2|0.84|1^^UCUM||||R"], "spo2", 84.0),
        (["NM|150456^^MDC|1.3.1.150456.2|84|furlong||||R"], "spo2", None),
        (["NM|150456^^MDC|1.3.1.150456.2|---|262688^^MDC||||R"], "spo2", None),
        (["CWE|68164^MDC_ATTR_ALERT_SOURCE^MDC|1.3.1.1.2|147842^MDC_ECG_HEART_RATE^MDC"], "heart_rate", None),
        ([], "spo2", None),
        (["NM|147842^MDC_ECG_HEART_RATE^MDC|1.3.1.1.2|31|264864^MDC_DIM_BEAT_PER_MIN^MDC"], "heart_rate", 31.0),
    ],
)
def test_the_vital_is_that_of_value_source_or_path(rows: list[str], vital: str, value: float | None) -> None:
    found = alarm(f"ST|{EVENT}|1.3.1.150456.1|x|||~PM~SP", *rows)
    assert (BY_CODE[found.vital].key, found.value) == (vital, value)


def test_both_families_of_codes_and_names_are_facets() -> None:
    found = alarm(
        f"ST|{EVENT}|1.1.1.9.1|x", "ST|68165^^MDC|1.1.1.9.3|end", "ST|68484^^MDC|1.1.1.9.6|PL", "ST|68485^^MDC|1|SA"
    )
    assert (found.ends, found.priority, found.vital) == (True, "low", 0)
    named = alarm(f"ST|{EVENT}|1.1.1.9.1|x", "ST|^MDC_ATTR_EVENT_PHASE^MDC|1|x", "ST|68166^^MDC|1|inactive")
    assert (named.ends, named.priority) == (True, "unknown")


def test_a_technical_alarm_is_a_status_and_its_end_is_silent() -> None:
    decoded = decode(f"ST|{EVENT}|1.1.1.9.1|x|||~PH~ST")
    assert not decoded.alarms
    assert [(event.kind, event.detail) for event in decoded.events] == [(EventKind.SENSOR_STATUS, "alarm_mdc:196670")]
    over = decode(f"ST|{EVENT}|1.1.1.9.1|x|||~PH~ST", "ST|68481^^MDC|1|end")
    assert not over.events
    assert not over.rejects


def test_an_alarm_is_known_by_its_order_else_by_what_alarms_and_where() -> None:
    row = f"ST|{EVENT}|1.1.1.9.1|x|||~PH~SP"
    assert alarm(row).ident == alarm(row, stamp="20260105083100+0100").ident
    assert alarm(row).ident != alarm(row, order="al_02").ident
    assert alarm(row, order="").ident == alarm(row, order="").ident != alarm(row).ident
    assert alarm(row, order="").ident != alarm(row.replace("1.1.1.9.1", "1.1.2.9.1"), order="").ident


@pytest.mark.parametrize(
    ("stamp", "time_ns"), [("20260105083000+0100", NOW), ("20260105083000", NO_TIME), ("soon", NO_TIME), ("", NO_TIME)]
)
def test_a_time_that_cannot_be_read_is_none(stamp: str, time_ns: int) -> None:
    assert alarm(f"ST|{EVENT}|1.1.1.9.1|x|||~PH~SP", stamp=stamp).time_ns == time_ns


def test_an_alarm_that_goes_on_is_of_when_the_monitor_says_so() -> None:
    began = f"ST|{EVENT}|1.1.1.9.1|x|||~PH~SP|||R|||20260105073000+0100"
    assert alarm(began).time_ns == NOW - 60 * MINUTE_NS
    assert alarm(began, "ST|68481^^MDC|1|continue").time_ns == NOW


@pytest.mark.parametrize(
    ("row", "label", "priority"),
    [
        (f"ST|{EVENT}|1.1.1.9.1|x", "mdc:196670 MDC_EVT_LO_VAL", "unknown"),
        ("ST|196674^^MDC|1.1.1.9.1|x", "mdc:196674", "unknown"),
        ("ST|67108900^MDC_PRIVATE^MDC|1.1.1.9.1|x|||~PH~SP", "mdc:67108900", "high"),
        ("ST|3021^Jane Doe^99X|1.1.1.9.1|x|||~PM~SP", "99X:3021", "medium"),
        ("ST|^^|1.1.1.9.1|Jane Doe|||~PH~SP", "", "high"),
    ],
)
def test_an_alarm_of_whatever_code_is_one(row: str, label: str, priority: str) -> None:
    found = alarm(row)
    assert (found.label, found.priority) == (label, priority)


@pytest.mark.parametrize("row", ["ST|^^||Jane Doe", "ST|12^x^99X|1.1|Jane Doe", "ST|69965^^MDC|1.0.0.0|"])
def test_an_order_that_names_no_alarm_is_rejected(row: str) -> None:
    [reject] = decode(row).rejects
    assert reject.detail == "OBR[1]: no code of an alarm"
    assert not decode(row, group="196614^MDC_EVT_ACTIVE^MDC").rejects


def test_many_orders_are_many_alarms() -> None:
    lines = ["MSH|^~\\&|MON|W|||20260105083000+0100||ORU^R42^ORU_R42|1|P|2.6", "OBR|1|a|a",
             f"OBX|1|ST|{EVENT}|1.1.1.9.1|x", "OBR|2|b|b", f"OBX|1|ST|{EVENT}|1.1.2.9.1|x"]  # fmt: skip
    message = Message("mon", "hl7v2", "", NOW, "\r".join([*lines, ""]).encode())
    assert len(ADAPTERS["hl7v2"].decode([message], [Context()]).alarms) == 2
