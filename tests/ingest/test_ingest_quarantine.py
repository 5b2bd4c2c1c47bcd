"""Bad messages and bad adapters: kept apart from good ones, and replayed after a fix."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest import decoding
from ingest.adapter import (
    Adapter,
    Columns,
    Context,
    Decoded,
    ReadingsBuilder,
    Reject,
    SourceClock,
    unit_code,
    vital_code,
)
from ingest.placing.clocks import OFFSET_KEY
from tests.ingest.ingest_world import World, reading, spo2
from tests.support import SECOND
from vitals.errors import NotFound
from vitals.glossary import NOT_SCORED, EventKind, Flag, Reason
from vitals.model import DeviceEvent, Message

SPO2, PERCENT = vital_code("spo2"), unit_code("%")


def lines(message: Message) -> int:
    """What the test adapters read: the value of one SpO2."""
    return int(message.payload)


def decode_lines(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """One SpO2 a message; any failure is the adapter's own."""
    builder = ReadingsBuilder()
    events = []
    for index, (message, _) in enumerate(zip(messages, contexts, strict=True)):
        builder.add(
            index, SPO2, lines(message), PERCENT, message.received_ns, clock=SourceClock.INSTANT, seq=message.ordinal
        )
        events.append(DeviceEvent(message.device, EventKind.SENSOR_STATUS, 5, "read", message=message.ordinal))
    return Decoded(builder.build(), events, unknown_members=len(messages))


LINES = Adapter("lines", 3, "Lines", {"": "a number"}, frozenset({"spo2"}), decode_lines, max_payload=20)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path, adapters={"lines": LINES})
    yield made
    made.close()


def quarantined(world: World) -> list[tuple[str, Reason]]:
    return [(item.device, item.reason) for item in world.service.quarantine()]


@pytest.mark.parametrize(
    ("adapter", "kind", "payload", "reason", "version"),
    [
        ("telepathy", "", b"97", Reason.UNKNOWN_ADAPTER, 0),
        ("lines", "", b"9" * 21, Reason.PAYLOAD_TOO_LARGE, 3),
        ("lines", "", b"", Reason.EMPTY, 3),
        ("lines", "", b"many", Reason.ADAPTER_ERROR, 3),
        ("json", "", b"{", Reason.MALFORMED, 3),
        ("json", "odd", b"{}", Reason.UNKNOWN_KIND, 3),
        ("json", "", b'{"vital":"spo2"}', Reason.MISSING_FIELD, 3),
        ("ble_plx", "2a5e", b"\x01", Reason.TRUNCATED, 5),
    ],
)
def test_a_bad_message_is_kept_with_its_bytes_and_reason(
    world: World, adapter: str, kind: str, payload: bytes, reason: Reason, version: int
) -> None:
    world.worn("d", adapter)
    world.send(
        world.message("d", payload, adapter, kind), world.message("d", spo2(97, world.clock.now_ns())),
        world.message("d", b"96", "lines"),
    )  # fmt: skip
    world.drain()
    assert {row["value"] for row in world.rows()} == {97.0, 96.0}
    (item,) = world.service.quarantine()
    assert (item.device, item.adapter, item.kind, item.reason) == ("d", adapter, kind, reason)
    assert (item.adapter_version, item.size, item.payload) == (version, len(payload), b"")
    assert item.received_ns == world.clock.now_ns()
    whole = world.service.quarantine_item(item.id)
    assert whole == type(item)(**{name: getattr(item, name) for name in item.__struct_fields__} | {"payload": payload})
    ledger = world.service.ledger("d")
    assert (ledger.messages.quarantined, ledger.messages.decoded) == (1, 2)
    assert payload == b"" or payload not in (world.path / "vitals.db-wal").read_bytes() or len(payload) < 8


def test_the_largest_payload_is_not_too_large(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", b"0" * 18 + b"97", "lines"))
    world.drain()
    assert [row["value"] for row in world.rows()] == [97.0]


@pytest.mark.parametrize("bad", [set(), {0}, {99}, {49, 50}, {3, 40, 77}, set(range(100))])
def test_an_adapter_that_fails_on_some_decodes_the_others(world: World, bad: set[int]) -> None:
    world.worn("d")
    world.send(*(world.message("d", b"broken" if n in bad else b"%d" % n, "lines") for n in range(100)))
    world.drain()
    assert [row["value"] for row in world.rows()] == [float(n) for n in range(100) if n not in bad]
    assert [row["message"] & 0xFFFF for row in world.rows()] == [n for n in range(100) if n not in bad]
    assert quarantined(world) == [("d", Reason.ADAPTER_ERROR)] * len(bad)
    assert {item.detail for item in world.service.quarantine()} <= {"ValueError"}
    said = [event for event in world.events() if event.detail == "read"]
    assert [event.message & 0xFFFF for event in said] == [n for n in range(100) if n not in bad]
    ledger = world.service.ledger("d").messages
    assert (ledger.decoded, ledger.quarantined) == (100 - len(bad), len(bad))


Spoil = Callable[[Decoded], Decoded]


def column(name: str, value: Any) -> Spoil:
    """Put a value into the first row of a column."""

    def spoil(decoded: Decoded) -> Decoded:
        array = getattr(decoded.batch, name).copy()
        array[0] = value
        return replace(decoded, batch=replace(decoded.batch, **{name: array}))

    return spoil


def batch(**changes: Any) -> Spoil:
    return lambda decoded: replace(decoded, batch=replace(decoded.batch, **changes))


def context(value: Mapping[Any, Any]) -> Spoil:
    return batch(context=value)


UNSOUND: dict[str, Spoil] = {
    "message after the last": column("message", 99),
    "message before the first": column("message", -1),
    "no such vital": column("vital", 0),
    "vital beyond the catalogue": column("vital", 60_000),
    "a panel": column("vital", vital_code("bp")),
    "unit of another vital": column("unit", unit_code("kg")),
    "no such unit": column("unit", 255),
    "no such clock": column("clock", 9),
    "no such statistic": column("statistic", 99),
    "infinite": column("value", float("inf")),
    "time before all time": column("source_time_ns", -(2**63)),
    "time after all time": column("source_time_ns", 2**63 - 1),
    "unequal lengths": batch(seq=np.zeros(5, np.int64)),
    "other type": batch(seq=np.zeros(1, np.float64)),
    "context of no row": context({7: {"a": 1}}),
    "context that is no map": context({0: 5}),
    "context with keys of its own": context({0: {5: 6}}),
    "context that cannot be encoded": context({0: {"a": object()}}),
    "offset that is no number": context({0: {OFFSET_KEY: "later"}}),
    "offset out of range": context({0: {OFFSET_KEY: 2**40}}),
    "event of no kind": lambda decoded: replace(decoded, events=[DeviceEvent("d", "sneezed", 5)]),  # type: ignore[arg-type]
    "event that cannot be encoded": lambda decoded: replace(
        decoded, events=[DeviceEvent("d", EventKind.BATTERY, 5, value=object())]  # type: ignore[arg-type]
    ),
    "reject of no message": lambda decoded: replace(decoded, rejects=[Reject(99, Reason.EMPTY)]),
    "reject of a message before": lambda decoded: replace(decoded, rejects=[Reject(-1, Reason.EMPTY)]),
    "reject without a reason": lambda decoded: replace(decoded, rejects=[Reject(0, "bad")]),  # type: ignore[arg-type]
    "documents of other rows": lambda decoded: replace(decoded, document=np.zeros(9, np.int64)),
    "corrections that are numbers": lambda decoded: replace(decoded, correction=np.zeros(1, np.int64)),  # type: ignore[arg-type]
    "nothing": lambda decoded: None,  # type: ignore[return-value, arg-type]
    "columns of another kind": lambda decoded: replace(decoded, batch=[1]),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_what_no_later_stage_could_take_is_the_adapters_fault(world: World, name: str) -> None:
    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        decoded = decode_lines(messages, contexts)
        return UNSOUND[name](decoded) if messages[0].payload == b"66" else decoded

    world.adapters["lines"] = replace(LINES, decode=decode)
    world.restart()
    world.worn("d")
    world.send(*(world.message("d", b"%d" % value, "lines") for value in (66, 97, 98)))
    world.send(world.message("d", spo2(96, world.clock.now_ns())))
    world.drain()
    assert [row["value"] for row in world.rows()] == [97.0, 98.0, 96.0]
    assert quarantined(world) == [("d", Reason.ADAPTER_ERROR)]
    assert world.service.position == world.raw.end()


def test_context_of_rows_finds_its_way_through_the_halves(world: World) -> None:
    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        decoded = decode_lines(messages, contexts)
        rows = {row: {"line": message.payload.decode()} for row, message in enumerate(messages)}
        return replace(decoded, batch=replace(decoded.batch, context=rows))

    world.adapters["lines"] = replace(LINES, decode=decode)
    world.restart()
    world.worn("d")
    world.send(*(world.message("d", payload, "lines") for payload in (b"90", b"x", b"91", b"92", b"y", b"93")))
    world.drain()
    assert [(row["value"], row["context"]["line"]) for row in world.rows()] == [
        (float(value), str(value)) for value in (90, 91, 92, 93)
    ]


def test_documents_and_corrections_keep_their_rows_through_the_halves() -> None:
    def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
        builder = ReadingsBuilder()
        for index, message in enumerate(messages):
            value = lines(message)
            builder.add(
                index, SPO2, value, PERCENT, message.received_ns, document=value if value > 91 else 0,
                correction=value == 93,
            )  # fmt: skip
        return Decoded(builder.build(), document=builder.documents(), correction=builder.corrections())

    payloads = (b"90", b"x", b"91", b"92", b"y", b"93")
    messages = [Message("d", "lines", "", 5, payload) for payload in payloads]
    decoded = decoding.decode(replace(LINES, decode=decode), messages, [Context()] * len(messages))
    assert decoded.document is not None
    assert decoded.correction is not None
    assert decoded.document.tolist() == [0, 0, 92, 93]
    assert decoded.correction.tolist() == [False, False, False, True]


PARTLY = [
    {"vital": "spo2", "value": 97, "unit": "%", "time": 1_699_999_990_000},
    {"vital": "spo2", "value": "high", "unit": "%", "time": 1_699_999_991_000},
    {"vital": "humour", "value": 4, "unit": "%", "time": 1_699_999_992_000},
]


def test_good_parts_of_a_bad_message_are_kept(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", json.dumps(PARTLY).encode()))
    world.drain()
    assert [(row["value"], row["flags"]) for row in world.rows()] == [(97.0, Flag(0))]
    (item,) = world.service.quarantine()
    assert (item.reason, item.detail) == (Reason.BAD_TYPE, "$[1].value; 1 more")
    ledger = world.service.ledger("d")
    assert (ledger.messages.received, ledger.messages.quarantined, ledger.messages.decoded) == (1, 1, 0)
    assert (ledger.readings.emitted, ledger.readings.stored) == (1, 1)


def test_a_bad_message_that_comes_again_is_quarantined_again_and_its_good_parts_are_duplicates(world: World) -> None:
    world.worn("d")
    for _ in range(2):
        world.send(world.message("d", json.dumps(PARTLY).encode()))
        world.drain()
    ledger = world.service.ledger("d")
    assert (ledger.messages.quarantined, ledger.messages.duplicate, ledger.readings.duplicate) == (2, 0, 1)
    assert len(world.service.quarantine()) == 2


def test_two_rejects_of_a_message_are_one_item(world: World) -> None:
    def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
        rejects = [Reject(0, Reason.BAD_VALUE, "first"), Reject(0, Reason.BAD_TIME, "second"), Reject(1, Reason.EMPTY)]
        return Decoded(ReadingsBuilder().build(), rejects=rejects)

    world.adapters["lines"] = replace(LINES, decode=decode)
    world.restart()
    world.send(world.message("d", b"1", "lines"), world.message("d", b"2", "lines"))
    world.drain()
    assert [(item.reason, item.detail) for item in world.service.quarantine()] == [
        (Reason.BAD_VALUE, "first"), (Reason.EMPTY, ""),
    ]  # fmt: skip
    assert world.service.ledger("d").messages.quarantined == 2


def fixed(world: World) -> None:
    """The next version of the adapter reads what the last could not."""

    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        read = [
            Message(m.device, m.adapter, m.kind, m.received_ns, m.payload.strip(b"~"), ordinal=m.ordinal)
            for m in messages
        ]
        return decode_lines(read, contexts)

    world.adapters["lines"] = replace(LINES, version=4, decode=decode)
    world.restart()


def test_a_replay_after_a_fix(world: World) -> None:
    patient = world.worn("d")
    measured_ns = world.clock.now_ns()
    world.send(world.message("d", b"~97", "lines"), world.message("d", b"98", "lines"))
    world.drain()
    (item,) = world.service.quarantine()
    fixed(world)
    world.clock.advance(3)
    assert world.service.replay(ident=item.id) == {"decoded": 1, "duplicate": 0, "quarantined": 0}
    world.drain()
    again = world.rows()[-1]
    assert (again["value"], again["patient"], again["flags"]) == (97.0, patient, Flag.REPLAYED)
    assert Flag.REPLAYED & NOT_SCORED
    assert (again["received_ns"], again["message"]) == (measured_ns, 1 << 16), "the message it came from"
    assert world.service.quarantine() == []
    ledger = world.service.ledger("d")
    assert (ledger.messages.decoded, ledger.messages.quarantined, ledger.readings.stored) == (2, 0, 2)
    for _ in range(2):
        assert world.service.replay(ident=item.id) == {"decoded": 0, "duplicate": 0, "quarantined": 0}
        world.drain()
        assert world.service.ledger("d") == ledger
    assert len(world.rows()) == 2
    assert world.service.quarantine_item(item.id).payload == b"~97", "closed, not gone"


def test_a_replay_that_fails_again_stays_with_the_reason_of_today(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", b"oops", "lines"))
    world.drain()
    (item,) = world.service.quarantine()

    def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
        return Decoded(ReadingsBuilder().build(), rejects=[Reject(0, Reason.BAD_CHECKSUM, "now we know")])

    world.adapters["lines"] = replace(LINES, version=4, decode=decode)
    world.restart()
    assert world.service.replay(ident=item.id) == {"decoded": 0, "duplicate": 0, "quarantined": 1}
    world.drain()
    (today,) = world.service.quarantine()
    assert (today.reason, today.detail, today.adapter_version) == (Reason.BAD_CHECKSUM, "now we know", 4)
    assert (today.received_ns, world.service.quarantine_item(today.id).payload) == (item.received_ns, b"oops")
    assert today.id != item.id
    assert world.service.ledger("d").messages.quarantined == 1
    assert world.service.replay(ident=item.id)["quarantined"] == 0, "the old item is done with"


def test_a_replay_of_what_came_again_meanwhile_is_a_duplicate(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", json.dumps(PARTLY).encode()))
    world.send(world.message("d", json.dumps([PARTLY[0], {**PARTLY[1], "value": 96}]).encode()))
    world.drain()
    (item,) = world.service.quarantine()

    json_adapter = world.adapters["json"]

    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        return replace(json_adapter.decode(messages, contexts), rejects=())

    world.adapters["json"] = replace(json_adapter, version=json_adapter.version + 1, decode=decode)
    world.restart()
    assert world.service.replay(ident=item.id) == {"decoded": 0, "duplicate": 1, "quarantined": 0}
    world.drain()
    assert len(world.rows()) == 2
    ledger = world.service.ledger("d")
    assert (ledger.messages.duplicate, ledger.messages.decoded, ledger.messages.quarantined) == (1, 1, 0)


def test_replay_by_reason_and_by_adapter(world: World) -> None:
    world.worn("d")
    world.send(*(world.message("d", payload, "lines") for payload in (b"~91", b"", b"~92", b"9" * 30)))
    world.send(world.message("d", b"{"), world.message("d", b"", "json"), world.message("d", b"1", "gone"))
    world.drain()
    assert len(world.service.quarantine()) == 7
    fixed(world)
    assert world.service.replay(reason="empty") == {"decoded": 0, "duplicate": 0, "quarantined": 2}
    world.drain()
    assert world.service.replay(adapter="lines") == {"decoded": 2, "duplicate": 0, "quarantined": 2}
    world.drain()
    assert world.service.replay(adapter="never") == {"decoded": 0, "duplicate": 0, "quarantined": 0}
    assert world.service.replay() == {"decoded": 0, "duplicate": 0, "quarantined": 5}
    world.drain()
    assert sorted(item.reason for item in world.service.quarantine()) == [
        Reason.EMPTY, Reason.EMPTY, Reason.MALFORMED, Reason.PAYLOAD_TOO_LARGE, Reason.UNKNOWN_ADAPTER,
    ]  # fmt: skip
    assert [row["value"] for row in world.rows()] == [91.0, 92.0]


def test_pages_of_quarantine(world: World) -> None:
    world.send(*(world.message("d", b"x", "lines") for _ in range(5)))
    world.drain()
    first = world.service.quarantine(limit=2)
    second = world.service.quarantine(after=first[-1].id, limit=2)
    last = world.service.quarantine(after=second[-1].id, limit=2)
    assert [len(page) for page in (first, second, last)] == [2, 2, 1]
    assert [item.id for item in (*first, *second, *last)] == [item.id for item in world.service.quarantine()]


def test_an_item_is_closed_once(world: World) -> None:
    world.send(world.message("d", b"x", "lines"))
    world.drain()
    (item,) = world.service.quarantine()
    closed = []
    for _ in range(2):
        with world.log.transaction() as tx:
            closed.append(world.journal.begin(tx).close_item(item.id))
    assert closed == [True, False]


def test_no_such_item(world: World) -> None:
    for ident in ("1", "x"):
        with pytest.raises(NotFound):
            world.service.quarantine_item(ident)
        with pytest.raises(NotFound):
            world.service.replay(ident=ident)


def test_a_message_without_readings_or_rejects_is_decoded(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", b"[]"))
    world.drain()
    ledger = world.service.ledger("d")
    assert (ledger.messages.decoded, ledger.readings.emitted) == (1, 0)
    assert world.entries() == []


def test_an_adapter_sees_the_settings_of_each_device(world: World) -> None:
    seen: list[tuple[str, str | None, dict[str, str]]] = []

    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        pairs = zip(messages, contexts, strict=True)
        seen.extend((message.device, context.zone, dict(context.settings)) for message, context in pairs)
        return decode_lines(messages, contexts)

    world.adapters["lines"] = replace(LINES, decode=decode)
    world.restart()
    world.registry.enrol("lines", device="old", zone="Asia/Kolkata", settings={"quirk": "yes"})
    world.registry.enrol("lines", device="plain")
    world.send(*(world.message(device, b"97", "lines") for device in ("old", "stranger", "plain")))
    world.drain()
    assert seen == [("old", "Asia/Kolkata", {"quirk": "yes"}), ("stranger", None, {}), ("plain", None, {})]


def test_readings_are_columns_of_the_declared_types() -> None:
    built = decode_lines([Message("d", "lines", "", 5 * SECOND, b"97", ordinal=3)], [Context()]).batch
    assert isinstance(built, Columns)
    assert (len(built), built.value.dtype, built.flags.dtype) == (1, np.float64, np.uint32)
    assert reading("spo2", 97, "%", 5 * SECOND)["time"] == 5_000
