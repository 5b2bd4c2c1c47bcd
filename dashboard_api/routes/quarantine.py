"""Quarantined messages, and readings that wait for a patient."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from dashboard_api.auth.access import Caller, Permission, needs
from dashboard_api.dependencies import Deps
from dashboard_api.schemas import REASONS, Discard, Owner, Paging, Replay
from dashboard_api.shapes import answer, page, quarantine_json, unassigned_json, waiting_json
from vitals.errors import InvalidRequest

router = APIRouter(tags=["quarantine"])


@router.get("/quarantine", **needs(Permission.QUARANTINE_READ))
def list_quarantine(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """List open items without their bytes."""
    found = deps.ingest.quarantine(after=query.cursor, limit=query.limit + 1)
    return answer(page(found, query.limit, quarantine_json, lambda item: item.id))


@router.post("/quarantine/replay", **needs(Permission.QUARANTINE_REPLAY))
def replay(deps: Deps, body: Replay) -> Response:
    """Decode open items again with the installed adapters. The answer counts items per outcome."""
    if len(body.model_dump(exclude_none=True)) > 1:
        raise InvalidRequest("id", "give one of id, reason and adapter")
    if body.reason is not None and body.reason not in REASONS:
        raise InvalidRequest("reason", f"not one of {', '.join(sorted(REASONS))}")
    return answer(deps.ingest.replay(ident=body.id, reason=body.reason, adapter=body.adapter))


@router.get("/quarantine/{item}", **needs(Permission.QUARANTINE_PAYLOAD))
def get_item(deps: Deps, item: str) -> Response:
    """One item with its bytes, which may name a person."""
    return answer(quarantine_json(deps.ingest.quarantine_item(item), payload=True))


@router.get("/unassigned", **needs(Permission.UNASSIGNED_READ))
def list_unassigned(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """List readings that wait for a patient."""
    found = deps.ingest.unassigned(after=query.cursor, limit=query.limit + 1)
    return answer(page(found, query.limit, unassigned_json, lambda item: item.id))


@router.get("/unassigned/{item}", **needs(Permission.VITALS_READ))
def get_unassigned(deps: Deps, item: str) -> Response:
    """One item with its readings."""
    waits, batch = deps.ingest.unassigned_item(item)
    return answer(unassigned_json(waits) | {"values": list(waiting_json(batch))})


@router.post("/unassigned/{item}/assign", **needs(Permission.DEVICES_ASSIGN))
def assign(deps: Deps, caller: Caller, item: str, body: Owner) -> Response:
    """Assign waiting readings to a patient, as history that pages nobody. `shift_s` corrects their clock: it is added
    to the time as sent."""
    stored = deps.ingest.assign_unassigned(item, body.patient, author=caller.name, shift_s=body.shift_s)
    return answer({"id": item, "patient": body.patient, "stored": stored})


@router.post("/unassigned/{item}/discard", **needs(Permission.DEVICES_ASSIGN))
def discard(deps: Deps, caller: Caller, item: str, body: Discard) -> Response:
    """Discard waiting readings, with a reason. They stay counted as unassigned."""
    return answer({"id": item, "discarded": deps.ingest.discard_unassigned(item, body.reason, author=caller.name)})
