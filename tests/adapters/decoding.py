"""Decoding in tests: messages from bytes, and what came out as plain JSON."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from ingest.adapter import Adapter, Alarm, Columns, Context, Decoded, SourceClock
from ingest.adapters import BUILT_IN, built_in
from vitals.catalog import BY_CODE, BY_KEY
from vitals.glossary import Flag, Statistic
from vitals.model import Message
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE


def declaring(adapter: Adapter) -> Adapter:
    """The adapter, failing the test in which it emits a vital sign that it does not declare."""
    declared = {BY_KEY[key].code for key in adapter.vitals}

    @wraps(adapter.decode)
    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        decoded = adapter.decode(messages, contexts)
        undeclared = set(decoded.batch.vital.tolist()) - declared
        assert not undeclared, f"{adapter.name} emits {[BY_CODE[code].key for code in undeclared]} undeclared"
        return decoded

    return replace(adapter, decode=decode)


ADAPTERS = {adapter.name: declaring(adapter) for adapter in map(built_in, BUILT_IN)}
DEFAULT_KINDS = {
    "json": "",
    "ble_glucose": "2a18",
    "ble_plx": "2a5f",
    "ble_heart_rate": "2a37",
    "clarity": "export",
    "fhir": "",
    "omh": "",
    "dexcom": "egvs",
    "nightscout": "entries",
    "withings": "getmeas",
    "fitbit": "heart",
    "ihealth": "bp",
    "health_auto_export": "metrics",
    "hl7v2": "oru_r01",
    "ble_blood_pressure": "2a35",
    "ble_cgm": "2aa7",
    "ble_thermometer": "2a1c",
    "ble_scale": "2a9d",
    "ble_battery": "2a19",
    "apple_health": "export",
}
RECEIVED_NS = 1_710_059_400_000_000_000
ORDINAL = 7 << 16


def message(
    adapter: str, payload: bytes, kind: str | None = None, received_ns: int = RECEIVED_NS, ordinal: int = ORDINAL
) -> Message:
    """A message of device ``d_1``; the kind defaults to a usual one of the adapter."""
    chosen = DEFAULT_KINDS[adapter] if kind is None else kind
    return Message("d_1", adapter, chosen, received_ns, payload, ordinal=ordinal)


def decode_all(messages: Sequence[Message], **settings: str) -> Decoded:
    """One micro-batch through the adapter of its first message, its device configured with ``settings``."""
    return ADAPTERS[messages[0].adapter].decode(messages, [Context(settings=settings)] * len(messages))


def decode(adapter: str, payload: bytes, kind: str | None = None, **settings: str) -> Decoded:
    """One message through its adapter."""
    return decode_all([message(adapter, payload, kind)], **settings)


def hexed(text: str) -> bytes:
    """Bytes of a hex string with spaces."""
    return bytes.fromhex(text)


def iso(time_ns: int) -> str:
    """Nanoseconds as ISO text without a zone, to the nanosecond."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09}" if rest else text


def flag_names(flags: int) -> list[str]:
    return [flag.name.lower() for flag in Flag if flags & flag and flag.name]


def reading_rows(batch: Columns) -> list[dict[str, Any]]:
    """Readings as JSON: NaN is null, codes are words, times ISO text."""
    rows = []
    for row in range(len(batch)):
        value = float(batch.value[row])
        shown: dict[str, Any] = {
            "vital": BY_CODE[int(batch.vital[row])].key,
            "value": None if math.isnan(value) else value,
            "unit": UNIT_BY_CODE[int(batch.unit[row])].ucum,
            "clock": SourceClock(int(batch.clock[row])).name.lower(),
            "source_time": iso(int(batch.source_time_ns[row])),
            "tz_min": int(batch.tz_min[row]),
            "seq": int(batch.seq[row]),
            "flags": flag_names(int(batch.flags[row])),
            "context": dict(batch.context.get(row, {})),
        }
        if batch.statistic[row] != Statistic.SINGLE or batch.ended_ns[row] != NO_TIME:
            shown["statistic"] = Statistic(int(batch.statistic[row])).name.lower()
            shown["ended"] = iso(int(batch.ended_ns[row]))
        rows.append(shown)
    return rows


def shown(decoded: Decoded) -> dict[str, Any]:
    """All that came out of one message as JSON."""
    return {
        "readings": reading_rows(decoded.batch),
        "events": [
            {
                "kind": event.kind.value,
                "detail": event.detail,
                "vital": BY_CODE[event.vital].key if event.vital else None,
                "time": iso(event.time_ns),
                **({} if event.value is None else {"value": event.value}),
            }
            for event in decoded.events
        ],
        "rejects": [{"reason": reject.reason.value, "detail": reject.detail} for reject in decoded.rejects],
        "unknown_members": decoded.unknown_members,
        **({"left_out": decoded.left_out} if decoded.left_out else {}),
        **({"alarms": [_alarm(alarm) for alarm in decoded.alarms]} if decoded.alarms else {}),
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    step = "ends" if alarm.ends else "instant" if alarm.instant else "begins"
    return {
        "vital": BY_CODE[alarm.vital].key if alarm.vital else None, "value": alarm.value, "time": iso(alarm.time_ns),
        "code": alarm.label, "priority": alarm.priority, "step": step, "id": alarm.ident,
    }  # fmt: skip


def assert_sound(decoded: Decoded, messages: Sequence[Message]) -> None:
    """What holds for any input: equal columns, declared vitals, no number invented, at most one reject a message."""
    batch, count = decoded.batch, len(messages)
    adapter = ADAPTERS[messages[0].adapter]
    declared = {vital.code for vital in BY_CODE.values() if vital.key in adapter.vitals}
    columns = [getattr(batch, name) for name in Columns.__slots__ if name != "context"]
    assert {len(column) for column in columns} == {len(batch)}
    assert set(batch.vital.tolist()) <= declared
    assert all(0 <= index < count for index in batch.message.tolist())
    # A value out of range need not have a number, nor need one that is withdrawn.
    ranged = (batch.flags & int(Flag.BELOW_RANGE | Flag.ABOVE_RANGE | Flag.RETRACTED)) != 0
    assert all(
        math.isfinite(value) or (math.isnan(value) and out) for value, out in zip(batch.value, ranged, strict=True)
    )
    assert set(batch.context) <= set(range(len(batch)))
    rejected = [reject.message for reject in decoded.rejects]
    assert rejected == sorted(set(rejected))
    assert all(0 <= index < count for index in rejected)
