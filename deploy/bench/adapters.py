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

BATCH: Final = 1000
SEED: Final = 20_240_310
_START_NS: Final = 1_710_059_400 * 1_000_000_000
_SECOND_NS: Final = 1_000_000_000
_AT_LEAST_S: Final = 0.05
"""A figure comes from so much CPU time, however fast the format."""
_TYPICAL: Final = {
    "glucose": 104.0, "glucose_bg": 104.0, "glucose_isf": 104.0, "bp_sys": 124.0, "bp_dia": 78.0, "bp_mean": 93.0,
    "spo2": 97.0, "temp": 36.8, "weight": 74.0, "height": 172.0, "steps": 420.0,
}  # fmt: skip


def typical(key: str, draw: random.Random) -> float:
    """An ordinary value of a vital, in its canonical unit; of a coded vital its first word."""
    vital = BY_KEY[key]
    if vital.values:
        return 0.0
    low, high = vital.suspect
    middle = _TYPICAL.get(key) or (low + high) / 2
    return middle * draw.uniform(0.98, 1.02)


def payloads(kind: Format, count: int) -> list[Message]:
    """``count`` messages of one format, each of a device and a second of its own; alike on every machine."""
    draw = random.Random(f"{SEED} {kind.adapter} {kind.kind}")  # noqa: S311 - a workload, not a secret
    found = []
    for number in range(count):
        time_ns = _START_NS + number * _SECOND_NS
        sample = Sample({key: typical(key, draw) for key in sorted(kind.vitals)}, time_ns, number)
        found.append(
            Message(f"d_{number}", kind.adapter, kind.kind, time_ns + _SECOND_NS, kind.encode(sample, draw),
                    ordinal=number)
        )  # fmt: skip
    return found


def _us_per_message(adapter: Adapter, messages: Sequence[Message]) -> float:
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
    prepared = [(f"{one.adapter}/{one.kind or 'none'}", adapters[one.adapter], payloads(one, BATCH)) for one in FORMATS]

    def once() -> list[Figure]:
        return [
            Figure("us_per_message", _us_per_message(adapter, messages), "us", of=name)
            for name, adapter, messages in prepared
        ]

    sizes = {name: round(sum(len(one.payload) for one in messages) / BATCH) for name, _, messages in prepared}
    return {"messages_per_batch": BATCH, "bytes_per_message": sizes, "cores": 1}, repeat(runs, once)
