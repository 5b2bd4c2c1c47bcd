"""Devices: enrolment, secrets, wearers, what was last seen of them, ledgers."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from dashboard_api.auth import Caller, Permission, needs
from dashboard_api.dependencies import Dependencies, Deps
from dashboard_api.routes.paging import after_cursor
from dashboard_api.schemas import NewAssignment, NewDevice, NewGrant, Paging, Rotation
from dashboard_api.shapes import Json, answer, assignment_json, device_json, page
from dashboard_api.times import parse_time
from vitals.errors import InvalidRequest
from vitals.ports import Device

router = APIRouter(tags=["devices"])


@router.get("/devices", **needs(Permission.DEVICES_READ))
def list_devices(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """By creation."""
    found = after_cursor(deps.registry.devices(), query, _ident)
    return answer(page(found, query.limit, lambda device: _shown(deps, device), _ident))


@router.post("/devices", status_code=201, **needs(Permission.DEVICES_WRITE))
def enrol(deps: Deps, body: NewDevice) -> Response:
    """Enrol a device; its secret is shown this once."""
    if body.adapter not in deps.adapters:
        raise InvalidRequest("adapter", f"not one of {', '.join(sorted(deps.adapters))}")
    device, secret = deps.registry.enrol(
        body.adapter, device=body.id, hub=body.hub, parent=body.parent, zone=body.zone, settings=body.settings
    )
    return answer({"device": device.id, "secret": secret}, 201, {"Location": f"/api/v1/devices/{device.id}"})


@router.get("/devices/{device}", **needs(Permission.DEVICES_READ))
def get_device(deps: Deps, device: str) -> Response:
    """One device."""
    return answer(_shown(deps, deps.registry.device(device)))


@router.get("/devices/{device}/ledger", **needs(Permission.DEVICES_READ))
def ledger(deps: Deps, device: str) -> Response:
    """Messages and readings of a device, each accounted for."""
    deps.registry.device(device)
    return answer(deps.ingest.ledger(device))


@router.post("/devices/{device}/rotate", **needs(Permission.DEVICES_WRITE))
def rotate(deps: Deps, device: str, body: Rotation | None = None) -> Response:
    """A new secret, shown this once; the old one stops working, now or after ``overlap_s``."""
    overlap_s = body.overlap_s if body is not None else 0
    return answer({"device": device, "secret": deps.registry.rotate(device, overlap_s=overlap_s)})


@router.post("/devices/{device}/grant", **needs(Permission.DEVICES_WRITE))
def grant(deps: Deps, device: str, body: NewGrant) -> Response:
    """A second secret for a short time, shown this once; the device's own goes on working."""
    return answer({"device": device, "secret": deps.registry.grant(device, body.ttl_s)})


@router.post("/devices/{device}/revoke", **needs(Permission.DEVICES_WRITE))
def revoke(deps: Deps, device: str) -> Response:
    """The device may not connect any more."""
    return answer(_shown(deps, deps.registry.revoke(device)))


@router.post("/devices/{device}/assign", **needs(Permission.DEVICES_ASSIGN))
def assign(deps: Deps, caller: Caller, device: str, body: NewAssignment) -> Response:
    """Say who wears the device. ``from`` left out: for a device that nobody wore before always, so that all its
    history is this patient's, as a person has said; for another from now on. ``replace`` takes the time from whoever
    is said to have worn it; readings of it move."""
    from_ns = None if body.from_ is None else parse_time(body.from_, "from")
    if "from_" not in body.model_fields_set and deps.registry.assignments(device=device):
        from_ns = deps.clock.now_ns()
    to_ns = None if body.to is None else parse_time(body.to, "to")
    assigned = deps.registry.assign(
        device, body.patient, from_ns=from_ns, to_ns=to_ns, zone=body.zone, replace=body.replace
    )
    deps.ingest.settle(caller.name)
    return answer(assignment_json(assigned))


def _ident(device: Device) -> str:
    return device.id


def _shown(deps: Dependencies, device: Device) -> Json:
    now_ns = deps.clock.now_ns()
    wearers = [
        one.patient
        for one in deps.registry.assignments(device=device.id)
        if (one.from_ns is None or one.from_ns <= now_ns) and (one.to_ns is None or now_ns < one.to_ns)
    ]
    return device_json(device, deps.ingest.device_state(device.id), wearers[0] if wearers else None)
