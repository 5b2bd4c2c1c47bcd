"""The load generator against a real broker and against servers that misbehave: what it sends, counts and records."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from ingest.adapter import Context
from ingest.adapters import load_adapters
from simulators import load
from simulators.load import ALARM_EVERY, Credential, LoadPlan, LoadResult, run_load
from simulators.load_payloads import FIRST_SEQ, PAYLOADS
from tests.simulators.conftest import Broker
from tests.support import Handler, free_port, loopback_server
from vitals.catalog import BY_CODE
from vitals.errors import BackendError, InvalidRequest
from vitals.model import Message

FLEET = [Credential(f"load-{number}", f"secret-{number}") for number in range(5)]
CONNACK = b"\x20\x02\x00\x00"


@pytest.fixture
def patient_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that drops nothing for a slow subscriber."""
    server = Broker(tmp_path, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    server.start()
    yield server
    server.kill()


async def _published(port: int, plan: LoadPlan) -> tuple[LoadResult, list[tuple[str, bytes]]]:
    """The result of ``plan`` and everything that a subscriber got of it."""
    got: list[tuple[str, bytes]] = []
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("vitals/#", qos=2)
        result = await run_load(plan)
        async with asyncio.timeout(10):
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                got.append((message.topic.value, message.payload))
                if len(got) == result.sent:
                    break
    return result, got


@pytest.mark.servers
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_gets_what_was_sent_and_the_ledger_lists_what_it_acknowledged(
    patient_broker: Broker, qos: int
) -> None:
    plan = LoadPlan("127.0.0.1", patient_broker.port, FLEET, rate=400, seconds=0.5, qos=qos)
    result, got = asyncio.run(_published(patient_broker.port, plan))
    assert 150 <= result.sent <= 201
    assert result.lost == 0
    told = sorted((topic.split("/")[1], json.loads(payload)[0]["seq"]) for topic, payload in got)
    expected = sorted(
        (device.device, FIRST_SEQ + number)
        for place, device in enumerate(FLEET)
        for number in range(len(range(place, result.sent, len(FLEET))))
    )
    assert told == expected
    listed = sorted(result.ledger("json2"))
    assert result.acked == len(listed) == (0 if qos == 0 else result.sent)
    assert listed == [f"{device},{seq}\n" for device, seq in told][: len(listed)]


@pytest.mark.servers
def test_without_a_rate_clients_send_as_fast_as_acks_come(patient_broker: Broker) -> None:
    plan = LoadPlan("127.0.0.1", patient_broker.port, FLEET[:2], rate=0, seconds=0.3, qos=1, window=4, payload="json1")
    result = asyncio.run(run_load(plan))
    assert result.sent > 2 * 4
    assert result.acked == result.sent == sum(result.counts)
    summary = result.summary()
    assert summary["ack_ms"]["p50"] <= summary["ack_ms"]["p99"] < 1000


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_payload_is_what_its_adapter_reads(name: str) -> None:
    payload, now_ms = PAYLOADS[name], int(time.time() * 1000)
    numbers = [0, 1, 39, 100_000]
    bodies = [payload.body(number, now_ms, number == 39) for number in numbers]
    assert len({len(body) for body in bodies}) == 1, "frames must not change their length"
    adapter = load_adapters()[payload.adapter]
    messages = [
        Message("load-0", payload.adapter, payload.kind, now_ms * 1_000_000, body, ordinal=number)
        for number, body in enumerate(bodies)
    ]
    decoded = adapter.decode(messages, [Context()] * len(messages))
    assert not decoded.rejects
    assert len(decoded.batch) == len(messages) * (2 if name == "json2" else 1)
    vitals = {BY_CODE[int(code)].key for code in decoded.batch.vital}
    assert vitals == {
        "json2": {"heart_rate", "spo2"}, "json1": {"spo2"}, "hr": {"heart_rate"}, "glucose": {"glucose_bg"},
    }[name]  # fmt: skip
    if name != "hr":
        per_message = len(decoded.batch) // len(messages)
        assert decoded.batch.seq[::per_message].tolist() == [payload.seq(number) for number in numbers]


def test_the_default_payload_has_two_readings_in_about_150_bytes() -> None:
    body = PAYLOADS["json2"].body(7, 1_700_000_000_000, False)
    assert 140 <= len(body) <= 170
    assert len(json.loads(body)) == 2


def test_alarming_devices_leave_the_range_in_one_message_of_four() -> None:
    values = [json.loads(PAYLOADS["json1"].body(n, 0, n % ALARM_EVERY == ALARM_EVERY - 1))["value"] for n in range(8)]
    assert [value < 90 for value in values] == [False, False, False, True] * 2


def _run(handle: Handler, **changes: Any) -> LoadResult:
    async def both() -> LoadResult:
        async with loopback_server(handle) as port:
            return await run_load(replace(LoadPlan("127.0.0.1", port, FLEET[:1], seconds=0.2), **changes))

    return asyncio.run(both())


def test_a_client_keeps_to_its_window_when_no_ack_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_DRAIN_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(CONNACK)
        while await reader.read(65536):
            pass

    result = _run(silent, window=7)
    assert (result.sent, result.acked, result.lost) == (7, 0, 0)
    assert result.summary()["ack_ms"] == {"p50": None, "p99": None}
    assert list(result.ledger("json2")) == []


def test_an_ack_out_of_order_is_not_counted_and_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_DRAIN_S", 0.05)

    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(CONNACK)
        await reader.read(65536)
        writer.write(b"\x40\x02\x00\x01")
        await asyncio.sleep(0.05)
        writer.write(b"\x40\x02\x00\x03")
        while await reader.read(65536):
            pass

    result = _run(liar, window=4)
    assert (result.acked, result.lost) == (1, 1)
    assert list(result.ledger("json2")) == [f"load-0,{FIRST_SEQ}\n"]


def test_acks_in_pieces_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_DRAIN_S", 0.05)

    async def piecemeal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(CONNACK)
        await reader.read(65536)
        for part in (b"\x40", b"\x02\x00", b"\x01\x40\x02\x00\x02\x40"):
            writer.write(part)
            await asyncio.sleep(0.02)
        while await reader.read(65536):
            pass

    assert _run(piecemeal, window=4).acked == 2


def test_a_refused_connection_is_an_error_and_so_is_nobody() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x20\x02\x00\x05")
        await writer.drain()

    with pytest.raises(BackendError, match="refused"):
        _run(refuse)
    with pytest.raises(BackendError):
        asyncio.run(run_load(LoadPlan("127.0.0.1", free_port(), FLEET)))


@pytest.mark.parametrize(
    "wrong",
    [{"credentials": []}, {"seconds": 0}, {"seconds": 1e9}, {"rate": -1}, {"qos": 3}, {"qos": 0}, {"payload": "x"},
     {"window": 0}],
)  # fmt: skip
def test_a_plan_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        replace(LoadPlan("127.0.0.1", 1883, FLEET), **wrong)


def test_quantiles_are_upper_ends_of_their_tenth_of_a_millisecond() -> None:
    result = LoadResult(acked=100)
    result.counts[9], result.counts[49] = 98, 2
    assert (result.quantile_ms(0.5), result.quantile_ms(0.98), result.quantile_ms(0.99)) == (1.0, 1.0, 5.0)
