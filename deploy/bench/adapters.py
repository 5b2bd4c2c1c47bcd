"""``bench adapters``: decoding alone, on one core, of every format that a simulated device speaks."""

import random
import time
from collections.abc import Sequence
from typing import Any, Final

from deploy.bench.report import Figure, repeat
from ingest.adapter import Adapter, Context
from ingest.adapters import load_adapters
from simulators.formats import FORMATS, Format, Sample
from vitals.catalog import BY_KEY
from vitals.errors import BackendError
from vitals.model import Message
from vitals.times import SECOND_NS

BATCH: Final = 1000
SEED: Final = 20_240_310
_START_NS: Final = 1_710_059_400 * 1_000_000_000
_AT_LEAST_S: Final = 0.05
"""CPU seconds measured per figure, for fast and slow formats alike."""
_MOST_VITALS: Final = 4
_PAIRS: Final = (("heart_rate", "spo2"), ("pulse_rate", "spo2"), ("bp_dia", "bp_sys"))
_TYPICAL: Final = {
    "glucose": 104.0, "glucose_bg": 104.0, "glucose_isf": 104.0, "bp_sys": 124.0, "bp_dia": 78.0, "bp_mean": 93.0,
    "spo2": 97.0, "temp": 36.8, "weight": 74.0, "height": 172.0, "body_fat": 24.0, "sleep": 7.5,
    "steps": 420.0, "perf_index": 4.2, "o2_flow": 2.0, "rr_interval": 820.0, "resp_rate": 15.0, "heart_rate": 72.0,
    "pulse_rate": 72.0, "pulse_rate_nibp": 72.0, "bmi": 25.0,
}  # fmt: skip


def typical(key: str, draw: random.Random) -> float:
    """An ordinary value of a vital, in its canonical unit; of a coded vital its first word."""
    vital = BY_KEY[key]
    if vital.values:
        return 0.0
    return _TYPICAL.get(key, sum(vital.suspect) / 2) * draw.uniform(0.98, 1.02)


def measured(kind: Format) -> list[str]:
    """What the device measures at a time: what the format is for, or of one for all vital signs an ordinary pair."""
    if len(kind.vitals) > _MOST_VITALS:
        for pair in _PAIRS:
            if kind.vitals >= set(pair):
                return list(pair)
    return sorted(kind.vitals)


def kinds() -> dict[str, list[Format]]:
    """``adapter/kind`` -> the formats that a simulated device speaks in it."""
    found: dict[str, list[Format]] = {}
    for one in FORMATS:
        found.setdefault(f"{one.adapter}/{one.kind or 'none'}", []).append(one)
    return found


def payloads(formats: Sequence[Format], count: int) -> list[Message]:
    """``count`` messages, formats in turn, each with its own device and second; the same on every machine."""
    draw = random.Random(SEED)  # noqa: S311 - a workload, not a secret
    found = []
    for number in range(count):
        one, time_ns = formats[number % len(formats)], _START_NS + number * SECOND_NS
        sample = Sample({key: typical(key, draw) for key in measured(one)}, time_ns, number)
        payload, received_ns = one.encode(sample, draw), time_ns + SECOND_NS
        found.append(Message(f"d_{number}", one.adapter, one.kind, received_ns, payload, ordinal=number))
    return found


def us_per_message(adapter: Adapter, messages: Sequence[Message]) -> float:
    """CPU time of one message in a micro-batch of these; raises ``BackendError`` when one of them gives nothing."""
    contexts = [Context()] * len(messages)
    decoded = adapter.decode(messages, contexts)
    told = {*decoded.batch.message.tolist(), *(event.message for event in decoded.events)}
    if decoded.rejects or len(told) != len(messages):
        raise BackendError(
            f"{adapter.name}/{messages[0].kind}: {len(decoded.rejects)} of {len(messages)} messages rejected, "
            f"{len(told)} told something",
            retryable=False,
        )
    rounds, started_s = 0, time.process_time()
    while (spent_s := time.process_time() - started_s) < _AT_LEAST_S:
        adapter.decode(messages, contexts)
        rounds += 1
    return spent_s / (rounds * len(messages)) * 1e6


def measure(runs: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures), one figure for each adapter and kind."""
    adapters = load_adapters()
    prepared = [(name, adapters[formats[0].adapter], payloads(formats, BATCH)) for name, formats in kinds().items()]

    def once() -> list[Figure]:
        return [
            Figure("us_per_message", us_per_message(adapter, messages), "us", of=name)
            for name, adapter, messages in prepared
        ]

    each = {
        name: {"bytes": round(sum(len(one.payload) for one in messages) / BATCH),
               "readings": round(len(adapter.decode(messages, [Context()] * BATCH).batch) / BATCH, 1)}
        for name, adapter, messages in prepared
    }  # fmt: skip
    return {"messages_per_batch": BATCH, "per_message": each, "cores": 1}, repeat(runs, once)
