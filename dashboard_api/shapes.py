"""JSON as CONTRACTS.md shows it, from ``vitals.records``. Not-a-number becomes null."""

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import numpy as np

from dashboard_api.times import rfc3339_column
from vitals.catalog import BY_CODE, Vital
from vitals.days import dates
from vitals.device_state import AheadState, DeviceState, Fault, ToldEvent
from vitals.glossary import Basis, Flag, Statistic
from vitals.model import UNASSIGNED, DeviceEvent, VitalBatch
from vitals.records import (
    Alert,
    AlertEvent,
    Assignment,
    DatedZone,
    Device,
    Patient,
    QuarantineItem,
    UnassignedItem,
    UnknownCode,
    Window,
)
from vitals.sources import Unpaged
from vitals.times import SECOND_NS, rfc3339
from vitals.units import UNIT_BY_CODE
from vitals.vault import Identity

if TYPE_CHECKING:
    from starlette.responses import Response

Json = dict[str, Any]
Record = TypeVar("Record")

_encoder: Final = msgspec.json.Encoder()
_BASES: Final = [basis.name.lower() for basis in Basis]
_STATISTICS: Final = [statistic.name.lower() for statistic in Statistic]
_FLAG_BITS: Final = [(int(flag), (flag.name or "").lower()) for flag in Flag]


def to_json(value: object) -> bytes:
    """``value`` as JSON bytes."""
    return _encoder.encode(value)


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
    """An ``application/json`` response; answers hold health data, so nothing on the way keeps them."""
    kept = {"Cache-Control": "no-store"} | dict(headers or {})
    from starlette.responses import Response  # noqa: PLC0415 - commands that print shapes start no server

    return Response(to_json(value), status, kept, "application/json")


def page(
    records: Sequence[Record], limit: int, shape: Callable[[Record], Json], cursor: Callable[[Record], str]
) -> Json:
    """``{"items", "next"}`` from up to ``limit + 1`` records: the one too many says that there is a next page."""
    shown = records[:limit]
    return {"items": [shape(one) for one in shown], "next": cursor(shown[-1]) if len(records) > limit else None}


def whole(items: Sequence[Json]) -> Json:
    """A list that has one page."""
    return {"items": items, "next": None}


def flag_words(flags: int) -> list[str]:
    """``Flag.LATE | Flag.MANUAL`` is ``["late", "manual"]``."""
    return [word for bit, word in _FLAG_BITS if flags & bit]


def number(value: float) -> float | None:
    """None for not-a-number."""
    return None if math.isnan(value) else value


def readings_json(batch: VitalBatch) -> Iterator[Json]:
    """Each row that belongs to a patient, as the contract's Reading."""
    return (reading for reading in _readings(batch) if reading["patient"] is not None)


def waiting_json(batch: VitalBatch) -> Iterator[Json]:
    """Readings that belong to nobody; ``sent`` is the time as the device sent it, wall time read as UTC."""
    for reading, sent_ns in zip(_readings(batch), batch.source_time_ns.tolist(), strict=True):
        yield reading | {"sent": rfc3339(sent_ns)}


def _readings(batch: VitalBatch) -> Iterator[Json]:
    columns = {name: column.tolist() for name, column in batch.columns().items()}
    for row in range(len(batch)):
        cell = {name: column[row] for name, column in columns.items()}
        vital = BY_CODE[cell["vital"]]
        yield {
            "patient": None if cell["patient"] == UNASSIGNED else batch.patients[cell["patient"]],
            "device": batch.devices[cell["device"]],
            "vital": vital.key,
            "time": rfc3339(cell["time_ns"]),
            "end": rfc3339(cell["end_ns"]),
            "basis": _BASES[cell["basis"]],
            "value": number(cell["value"]),
            "unit": vital.unit,
            "reported": {"value": number(cell["reported"]), "unit": UNIT_BY_CODE[cell["unit"]].ucum},
            "statistic": _STATISTICS[cell["statistic"]],
            "flags": flag_words(cell["flags"]),
            "seq": cell["seq"],
            "received": rfc3339(cell["received_ns"]),
            "context": dict(batch.context.get(row, {})),
        }


def window_json(vital: Vital, window: Window, next_ns: int | None, zones: Sequence[DatedZone]) -> Json:
    """A series as columns; ``next`` is the start of the rest that did not fit. Days are those of ``zones``."""
    kinds, row_kind = np.unique(window.flags, return_inverse=True)
    words = [flag_words(int(flags)) for flags in kinds]
    out: Json = {
        "vital": vital.key,
        "unit": vital.unit,
        "resolution": window.resolution,
        "time": rfc3339_column(window.time_ns),
        "value": window.value.tolist(),
        "min": window.minimum.tolist(),
        "max": window.maximum.tolist(),
        "flags": [words[kind] for kind in row_kind.tolist()],
        "next": rfc3339(next_ns),
    }
    if window.resolution == "raw":
        out |= {
            "device": list(window.device),
            "seq": list(window.seq),
            "basis": [_BASES[basis] for basis in window.basis],
        }
    else:
        out["count"] = window.count.tolist()
        out |= {"day": dates(zones, window.time_ns.tolist())} if window.resolution == "1d" else {}
    return out


def patient_json(patient: Patient, identity: Identity | None) -> Json:
    """What streams know of a patient and who it is."""
    who = identity or Identity("")
    return {
        "patient": patient.id,
        "name": who.name or None,
        "birth_date": who.birth_date,
        "mrn": who.mrn,
        "zone": patient.zone,
        "condition": patient.condition,
        "status": patient.status,
        "created": rfc3339(patient.created_ns),
    }


def assignment_json(assignment: Assignment) -> Json:
    """Null bounds are open."""
    return {
        "device": assignment.device,
        "patient": assignment.patient,
        "from": rfc3339(assignment.from_ns),
        "to": rfc3339(assignment.to_ns),
        "zone": assignment.zone,
    }


def device_json(device: Device, state: DeviceState, wearer: str | None) -> Json:
    """The registry's record, what was last seen of the device, and who wears it now."""
    return {
        "device": device.id,
        "adapter": device.adapter,
        "hub": device.hub,
        "parent": device.parent,
        "zone": device.zone,
        "settings": dict(device.settings),
        "created": rfc3339(device.created_ns),
        "revoked": rfc3339(device.revoked_ns),
        "last_seen": rfc3339(state.last_seen_ns),
        "last_measured": rfc3339(state.measured_ns),
        "online": state.online,
        "online_since": rfc3339(state.online_since_ns),
        "online_by": state.online_by or None,
        "battery": state.battery,
        "battery_low": state.battery_low,
        "battery_reported": rfc3339(state.battery_ns),
        "faults": [_fault_json(fault) for fault in state.faults],
        "patient": wearer,
    }


def unpaged_json(found: Sequence[Unpaged]) -> list[Json]:
    """Vital signs that a device cannot page for, and why."""
    return [{**one._asdict(), "reason": one.reason} for one in found]


def clock_json(state: AheadState) -> Json:
    """How far a device's clock is ahead, and the messages that say so."""
    return {
        "ahead_s": None if state.ahead_ns is None else state.ahead_ns / SECOND_NS,
        "since": rfc3339(state.since_ns),
        "corrects": state.corrects,
        "zone_hours": state.zone_hours or None,
        "arrivals": [
            {"received": rfc3339(one.received_ns), "ahead_s": one.ahead_ns / SECOND_NS} for one in state.arrivals
        ],
        "undone_by": state.undone_by or None,
        "undone": rfc3339(state.undone_ns),
        "reason": state.reason or None,
    }


def _fault_json(fault: Fault) -> Json:
    vital = BY_CODE.get(fault.vital)
    return {
        "kind": fault.kind,
        "detail": fault.detail,
        "vital": None if vital is None else vital.key,
        "first": rfc3339(fault.first_ns),
        "last": rfc3339(fault.last_ns),
        "count": fault.count,
        "value": fault.value,
    }


def told_event_json(told: ToldEvent) -> Json:
    """An event of a device's history."""
    return {"id": str(told.id)} | device_event_json(told.event)


def device_event_json(event: DeviceEvent) -> Json:
    """An event of the live stream; ``vital`` is null when the event is about none."""
    vital = BY_CODE.get(event.vital)
    return {
        "device": event.device,
        "kind": event.kind,
        "time": rfc3339(event.time_ns),
        "detail": event.detail,
        "value": event.value,
        "vital": None if vital is None else vital.key,
    }


def values_json(values: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The readings behind an alert."""
    return [
        {
            "vital": one.get("vital"),
            "value": one.get("value"),
            "unit": one.get("unit"),
            "time": rfc3339(one.get("time_ns")),
        }
        for one in values
    ]


def alert_json(alert: Alert) -> Json:
    """The contract's Alert, without ``events``."""
    return {
        "id": alert.id,
        "patient": alert.patient,
        "rule": alert.rule,
        "rule_version": alert.rule_version,
        "severity": alert.severity.name,
        "state": alert.state,
        "raised": rfc3339(alert.raised_ns),
        "updated": rfc3339(alert.updated_ns),
        "values": values_json(alert.values),
        "limit": alert.limit,
        "quality": alert.quality,
        "text": alert.text,
        "owner": alert.owner or None,
        "incident": alert.incident or None,
        "page": alert.page,
        "level": alert.level,
        "role": alert.role or None,
        "due": rfc3339(alert.due_ns),
        "resolves": alert.resolves or None,
    }


def alert_event_json(event: AlertEvent) -> Json:
    """One transition of an alert."""
    return {
        "id": event.id,
        "number": event.number,
        "kind": event.kind,
        "at": rfc3339(event.at_ns),
        "severity": event.severity.name,
        "state": event.state,
        "values": values_json(event.values),
        "limit": event.limit,
        "quality": event.quality,
        "text": event.text,
        "author": event.author or None,
        "note": event.note or None,
        "page": event.page,
        "level": event.level,
        "role": event.role or None,
        "due": rfc3339(event.due_ns),
    }


def transition_json(alert: Alert, event: AlertEvent) -> Json:
    """The alert as ``event`` left it, for the live stream."""
    return alert_json(alert) | {"event": alert_event_json(event)}


def quarantine_json(item: QuarantineItem, *, payload: bool = False) -> Json:
    """The contract's quarantine item, its bytes when ``payload``."""
    out: Json = {
        "id": item.id,
        "device": item.device,
        "adapter": item.adapter,
        "adapter_version": item.adapter_version,
        "kind": item.kind,
        "reason": item.reason,
        "detail": item.detail,
        "received": rfc3339(item.received_ns),
        "size": item.size,
    }
    if payload:
        out["payload_base64"] = base64.b64encode(item.payload).decode()
    return out


def unassigned_json(item: UnassignedItem) -> Json:
    """Readings of one message that wait for a wearer."""
    return {
        "id": item.id,
        "device": item.device,
        "readings": item.readings,
        "reason": item.reason,
        "first": rfc3339(item.first_ns),
        "last": rfc3339(item.last_ns),
        "received": rfc3339(item.received_ns),
    }


def unknown_code_json(item: UnknownCode) -> Json:
    """A code that is no vital sign here, with its newest numbers."""
    return {
        "id": item.id,
        "device": item.device,
        "adapter": item.adapter,
        "kind": item.kind.value,
        "code": item.code,
        "count": item.count,
        "first": rfc3339(item.first_ns),
        "last": rfc3339(item.last_ns),
        "samples": list(item.samples),
    }
