"""What one payload would give: through the stages that ingest itself runs, in a folder that is gone afterwards."""

import inspect
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from dashboard_api.shapes import readings_json
from deploy.wiring import open_journal
from ingest import pipeline
from ingest.adapter import Adapter, Context
from ingest.alarms import OwnedAlarm
from ingest.files.splitting import Source
from ingest.journal import unknown_codes
from ingest.pipeline import Outcome
from ingest.placing.wear import WearTable
from vitals.catalog import BY_CODE
from vitals.errors import InvalidRequest
from vitals.model import DeviceEvent, Message, Provenance, VitalBatch
from vitals.records import Assignment, Device
from vitals.times import rfc3339

Json = dict[str, Any]
DEVICE: Final = "trial"
_WEARER: Final = "p_trial"


def try_payload(
    adapter: Adapter,
    payload: bytes,
    kind: str = "",
    *,
    received_ns: int,
    zone: str | None = None,
    settings: Mapping[str, str] | None = None,
    captured: bool = False,
) -> Json:
    """What ``adapter`` and the stages after it make of a payload of a device that one person always wore.

    ``zone`` is the IANA zone of that person and of the device's clock, ``settings`` the device's model settings.
    ``captured`` tells that ``payload`` is a file of several, which are cut as an import cuts them.

    Returns:
        ``{"adapter", "version", "kind", "readings", "events", "rejects", "unknown_codes", "unknown_members",
        "left_out", "duplicates"}``. ``unknown_codes`` are the codes that are no vital sign here, with their counts.
        Readings have the contract's shape without the patient; one that would wait on the unassigned worklist says why
        as ``unassigned``. ``left_out`` counts members of context that cannot be read, ``duplicates`` readings that the
        payload holds more than once.

    Raises:
        InvalidRequest: no such zone, or files of this kind are not cut.
    """
    _check_zone(zone)
    payloads = _cut(adapter, payload, kind) if captured else [payload]
    messages = [
        Message(DEVICE, adapter.name, kind, received_ns, one, ordinal=number) for number, one in enumerate(payloads)
    ]
    device = Device(DEVICE, adapter.name, zone=zone, settings=settings or {})
    worn = WearTable([device], [Assignment(DEVICE, _WEARER, zone=zone)])
    contexts = {DEVICE: Context(zone, device.settings)}
    source = Provenance(adapter=adapter.name, adapter_version=adapter.version)
    with tempfile.TemporaryDirectory(prefix="vitalgate-") as scratch:
        journal = open_journal(Path(scratch))
        try:
            with journal.log.transaction() as tx:
                out = pipeline.run(adapter, messages, contexts, worn, journal.begin(tx), provenance=source)
        finally:
            journal.log.close()
    return {"adapter": adapter.name, "version": adapter.version, "kind": kind} | _shown(out)


def _cut(adapter: Adapter, payload: bytes, kind: str) -> list[bytes]:
    found = adapter.files.get(kind)
    if found is None:
        raise InvalidRequest("--captured", "no kind of file; choose one of " + (", ".join(adapter.files) or "none"))
    source = Source(BytesIO(payload), len(payload))
    return [piece.payload for piece in found.pieces(source, adapter.max_payload, kind)]


def _check_zone(zone: str | None) -> None:
    if zone is None:
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest("--zone", "not an IANA time zone") from error


def _shown(out: Outcome) -> Json:
    readings = [reading for batch in (*out.batches, *out.withdrawn) for reading in _readings(batch)]
    readings += [
        reading | {"unassigned": waiting.reason} for waiting in out.waiting for reading in _readings(waiting.batch)
    ]
    return {
        "readings": readings,
        "events": [_event(event) for event in out.events],
        "rejects": [{"reason": held.reason.value, "detail": held.detail} for held in out.held],
        "unknown_codes": _codes(out.events),
        "unknown_members": out.unknown_members,
        "left_out": out.left_out,
        "duplicates": out.tally.total("repeated"),
        # Only where there are any: golden cases of other adapters have no such member.
        **({"alarms": [_alarm(one) for one in out.alarms]} if out.alarms else {}),
    }


def _codes(events: Sequence[DeviceEvent]) -> list[Json]:
    """Codes that the worklist would show, the most frequent first."""
    found = Counter((event.kind.value, event.detail) for event in events if event.kind in unknown_codes.KINDS)
    return [{"kind": kind, "code": code, "count": count} for (kind, code), count in found.most_common()]


def _readings(batch: VitalBatch) -> list[Json]:
    worn = batch.replace(patients=(_WEARER,), patient=np.zeros(len(batch), np.int32))
    return [{key: value for key, value in one.items() if key != "patient"} for one in readings_json(worn)]


def _event(event: DeviceEvent) -> Json:
    vital = BY_CODE[event.vital].key if event.vital else None
    return {"kind": event.kind.value, "time": rfc3339(event.time_ns), "vital": vital, "value": event.value,
            "detail": event.detail}  # fmt: skip


def _alarm(one: OwnedAlarm) -> Json:
    alarm = one.alarm
    step = "ends" if alarm.ends else "instant" if alarm.instant else "begins"
    vital = BY_CODE[alarm.vital].key if alarm.vital else None
    return {"vital": vital, "value": alarm.value, "time": rfc3339(one.time_ns), "code": alarm.label,
            "priority": alarm.priority, "step": step}  # fmt: skip


def identity_note(adapter: Adapter) -> str | None:
    """The identity of readings: the paragraph of the adapter's module docstring that begins with ``Identity``."""
    module = inspect.getmodule(adapter.decode)
    paragraphs = inspect.cleandoc(str(module.__doc__ if module else "")).split("\n\n")
    found = next((text for text in paragraphs if text.startswith("Identity")), None)
    return None if found is None else " ".join(found.replace("``", "`").split())
