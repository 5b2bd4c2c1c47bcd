"""Devices: enrolment, secrets, assignments, state and ledgers."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from dashboard_api.auth.access import Caller, Permission, needs
from dashboard_api.dependencies import Dependencies, Deps
from dashboard_api.routes.paging import after_cursor
from dashboard_api.schemas import DeviceChange, Discard, NewAssignment, NewDevice, NewGrant, OfDevice, Paging, Rotation
from dashboard_api.shapes import (
    Json,
    answer,
    assignment_json,
    clock_json,
    device_json,
    page,
    told_event_json,
    unknown_code_json,
    unpaged_json,
)
from dashboard_api.times import parse_time
from vitals.canary import is_canary
from vitals.device_state import (
    BATTERY_LOW_PERCENT,
    EXPECTED_INTERVAL_S,
    DeviceState,
    Processed,
    ToldEvent,
    number_setting,
)
from vitals.errors import InvalidRequest
from vitals.records import Device
from vitals.sources import unpaged
from vitals.times import SECOND_NS

router = APIRouter(tags=["devices"])


@router.get("/devices", **needs(Permission.DEVICES_READ))
def list_devices(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """List devices by creation."""
    found = after_cursor([one for one in deps.registry.devices() if not is_canary(one.id)], query, _ident)
    return answer(page(found, query.limit, lambda device: _shown(deps, device), _ident))


@router.post("/devices", status_code=201, **needs(Permission.DEVICES_WRITE))
def enrol(deps: Deps, body: NewDevice) -> Response:
    """Enrol a device. The secret is shown only in this answer. `cannot_page` names vital signs that usually arrive too
    late to page anybody, with the reason."""
    if body.adapter not in deps.adapters:
        raise InvalidRequest("adapter", f"not one of {', '.join(sorted(deps.adapters))}")
    if body.id is not None and is_canary(body.id):
        raise InvalidRequest("id", "is reserved")
    settings = {**(body.settings or {}), **{name: value for name, value in _own(body).items() if value is not None}}
    device, secret = deps.registry.enrol(
        body.adapter, device=body.id, hub=body.hub, parent=body.parent, zone=body.zone, settings=settings
    )
    made = {"device": device.id, "secret": secret, "cannot_page": _cannot_page(deps, device.adapter)}
    return answer(made, 201, {"Location": f"/api/v1/devices/{device.id}"})


@router.get("/devices/{device}", **needs(Permission.DEVICES_READ))
def get_device(deps: Deps, device: str) -> Response:
    """One device."""
    return answer(_shown(deps, deps.registry.device(device)))


@router.patch("/devices/{device}", **needs(Permission.DEVICES_WRITE))
def change_device(deps: Deps, device: str, body: DeviceChange) -> Response:
    """Change the longest expected time between measurements, the level below which the battery is low, and model
    settings of the adapter."""
    return answer(_shown(deps, deps.registry.configure(device, {**(body.settings or {}), **_own(body)})))


@router.get("/devices/{device}/events", **needs(Permission.DEVICES_READ))
def events(deps: Deps, device: str, query: Annotated[Paging, Query()]) -> Response:
    """The history of a device, newest first: presence, battery, faults; the last thousand events."""
    deps.registry.device(device)
    found = deps.ingest.device_events(device, after=query.cursor, limit=query.limit + 1)
    return answer(page(found, query.limit, told_event_json, _place))


@router.get("/unknown-codes", **needs(Permission.DEVICES_READ))
def unknown_codes(deps: Deps, query: Annotated[OfDevice, Query()]) -> Response:
    """Codes that devices send values under and that are no vital sign here (`unknown_code`), or that name two
    (`code_conflict`), and vital signs with numbers that are impossible (`implausible`), possible in another unit only
    (`unit_suspect`) or unreadable (`unreadable`): how often, since when, and the newest numbers."""
    if query.device is not None:
        deps.registry.device(query.device)
    found = deps.ingest.unknown_codes(device=query.device, after=query.cursor, limit=query.limit + 1)
    return answer(page(found, query.limit, unknown_code_json, lambda item: item.id))


@router.get("/devices/{device}/clock", **needs(Permission.DEVICES_READ))
def clock(deps: Deps, device: str) -> Response:
    """How far the device's clock is ahead, learned from arrivals: `corrects` says whether readings are corrected by it,
    `zone_hours` that it is set to another zone or to summer time, `arrivals` what it was learned from."""
    deps.registry.device(device)
    return answer(clock_json(deps.ingest.device_clock(device)))


@router.post("/devices/{device}/clock/undo", **needs(Permission.DEVICES_WRITE))
def undo_clock(deps: Deps, caller: Caller, device: str, body: Discard) -> Response:
    """Stop correcting readings by what was learned of the device's clock, with a reason. It is learned anew only after
    a message with a right clock."""
    deps.registry.device(device)
    return answer(clock_json(deps.ingest.undo_clock(device, body.reason, author=caller.name)))


@router.get("/devices/{device}/ledger", **needs(Permission.DEVICES_READ))
def ledger(deps: Deps, device: str) -> Response:
    """The two ledgers of a device: messages and readings by outcome."""
    deps.registry.device(device)
    return answer(deps.ingest.ledger(device))


@router.post("/devices/{device}/rotate", **needs(Permission.DEVICES_WRITE))
def rotate(deps: Deps, device: str, body: Rotation | None = None) -> Response:
    """Create a new secret, shown only in this answer. The old secret stops working now, or after `overlap_s`."""
    overlap_s = body.overlap_s if body is not None else 0
    return answer({"device": device, "secret": deps.registry.rotate(device, overlap_s=overlap_s)})


@router.post("/devices/{device}/grant", **needs(Permission.DEVICES_WRITE))
def grant(deps: Deps, device: str, body: NewGrant) -> Response:
    """Create a second secret for a short time, shown only in this answer. The device's own secret continues to work."""
    return answer({"device": device, "secret": deps.registry.grant(device, body.ttl_s)})


@router.post("/devices/{device}/revoke", **needs(Permission.DEVICES_WRITE))
def revoke(deps: Deps, device: str) -> Response:
    """Revoke a device: it can no longer connect."""
    return answer(_shown(deps, deps.registry.revoke(device)))


@router.post("/devices/{device}/assign", **needs(Permission.DEVICES_ASSIGN))
def assign(deps: Deps, caller: Caller, device: str, body: NewAssignment) -> Response:
    """Assign a device to a patient. Without `from`, the first assignment of a device covers its whole past, and a later
    one starts now. `replace` takes the time from the recorded wearer and moves the readings of that time. `cannot_page`
    is that of enrolment."""
    from_ns = None if body.from_ is None else parse_time(body.from_, "from")
    if "from_" not in body.model_fields_set and deps.registry.assignments(device=device):
        from_ns = deps.clock.now_ns()
    to_ns = None if body.to is None else parse_time(body.to, "to")
    assigned = deps.registry.assign(
        device, body.patient, from_ns=from_ns, to_ns=to_ns, zone=body.zone, replace=body.replace
    )
    deps.ingest.settle(caller.name)
    adapter = deps.registry.device(device).adapter
    return answer(assignment_json(assigned) | {"cannot_page": _cannot_page(deps, adapter)})


def _ident(device: Device) -> str:
    return device.id


def _place(told: ToldEvent) -> str:
    return str(told.id)


def _cannot_page(deps: Dependencies, adapter: str) -> list[Json]:
    """Nothing of an adapter that is no longer installed."""
    source = deps.adapters.get(adapter)
    return [] if source is None else unpaged_json(unpaged(source))


def _own(body: NewDevice | DeviceChange) -> dict[str, str | None]:
    """The pipeline's own settings among what was sent, as the registry keeps them; None for null."""
    sent = {EXPECTED_INTERVAL_S: body.expected_interval_s, BATTERY_LOW_PERCENT: body.battery_low_percent}
    return {
        name: None if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in sent.items()
        if name in body.model_fields_set
    }


def _shown(deps: Dependencies, device: Device) -> Json:
    now_ns = deps.clock.now_ns()
    wearers = [
        one.patient
        for one in deps.registry.assignments(device=device.id)
        if (one.from_ns is None or one.from_ns <= now_ns) and (one.to_ns is None or now_ns < one.to_ns)
    ]
    state = deps.ingest.device_state(device.id)
    expected_s, overdue = _expectation(device, state, deps.ingest.processed(), worn=bool(wearers))
    shown = device_json(device, state, wearers[0] if wearers else None)
    known = clock_json(deps.ingest.device_clock(device.id))
    return shown | {
        "expected_interval_s": expected_s,
        "overdue": overdue,
        "clock": known if known["arrivals"] else None,
        "cannot_page": _cannot_page(deps, device.adapter),
    }


def _expectation(
    device: Device, state: DeviceState, processed: Processed, *, worn: bool
) -> tuple[float | None, bool | None]:
    """Seconds within which a measurement is expected, and whether it is overdue by processed time (null for a device
    from which none is expected, such as one in a drawer)."""
    expected_s = number_setting(device.settings, EXPECTED_INTERVAL_S)
    if expected_s is None and worn and state.window_ns is not None:
        expected_s = state.window_ns / SECOND_NS
    since_ns = next((one for one in (state.measured_ns, state.last_seen_ns) if one is not None), device.created_ns)
    if expected_s is None or device.revoked_ns is not None:
        return expected_s, None
    return expected_s, processed.since(since_ns) > expected_s * SECOND_NS
