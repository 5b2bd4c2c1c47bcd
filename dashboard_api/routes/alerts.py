"""Alerts: the list, one alert with its events, and actions of people."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from dashboard_api.auth.access import Caller, Permission, Principal, needs
from dashboard_api.dependencies import Dependencies, Deps
from dashboard_api.explanations import explanation
from dashboard_api.routes.readings import bounded
from dashboard_api.schemas import AlertQuery, Note, Remark, Shelf
from dashboard_api.shapes import Json, alert_event_json, alert_json, answer, page, whole
from dashboard_api.times import parse_time
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.times import MINUTE_NS

router = APIRouter(tags=["alerts"])


@router.get("/alerts", **needs(Permission.ALERTS_READ))
def list_alerts(deps: Deps, query: Annotated[AlertQuery, Query()]) -> Response:
    """List alerts, newest first."""
    try:
        found = deps.book.alerts(
            states=query.state,
            severity=query.severity_number(),
            patient=query.patient,
            after=query.cursor,
            limit=query.limit + 1,
        )
    except NotFound as error:
        raise InvalidRequest("cursor", "is not of this list") from error
    return answer(page(found, query.limit, alert_json, lambda alert: alert.id))


@router.get("/alerts/{alert}", **needs(Permission.ALERTS_READ))
def get_alert(deps: Deps, alert: str) -> Response:
    """One alert with its events."""
    return answer(_shown(deps, alert))


@router.get("/alerts/{alert}/events", **needs(Permission.ALERTS_READ))
def list_events(deps: Deps, alert: str) -> Response:
    """All events of an alert, oldest first."""
    return answer(whole([alert_event_json(event) for event in deps.book.events(alert)]))


@router.get("/alerts/{alert}/explanation", **needs(Permission.ALERTS_READ))
async def explain(request: Request, deps: Deps, caller: Caller, alert: str) -> Response:
    """Explain an alert: its rule in words, the values that raised it with their quality, the readings around that time
    (for callers with `vitals:read`), the condition that ends it, its incident, the responsible person until when, and
    its history in words."""
    store = deps.store if Permission.VITALS_READ in caller.permissions else None

    def read() -> Response:
        return answer(explanation(deps.book.alert(alert), deps.book, deps.rulebook, store))

    return await bounded(request, read)


@router.post("/alerts/{alert}/acknowledge", **needs(Permission.ALERTS_ACT))
def acknowledge(deps: Deps, caller: Caller, alert: str, body: Remark | None = None) -> Response:
    """Acknowledge the alert. A second acknowledgement changes nothing."""
    return _act(deps, caller, ControlKind.ACKNOWLEDGE, alert, {"note": _note(body)})


@router.post("/alerts/{alert}/note", **needs(Permission.ALERTS_ACT))
def note(deps: Deps, caller: Caller, alert: str, body: Note) -> Response:
    """Add a note to the alert."""
    return _act(deps, caller, ControlKind.NOTE, alert, {"note": body.note})


@router.post("/alerts/{alert}/resolve", **needs(Permission.ALERTS_ACT))
def resolve(deps: Deps, caller: Caller, alert: str, body: Remark | None = None) -> Response:
    """Close the alert."""
    return _act(deps, caller, ControlKind.RESOLVE, alert, {"note": _note(body)})


@router.post("/alerts/{alert}/shelve", **needs(Permission.ALERTS_ACT))
def shelve(deps: Deps, caller: Caller, alert: str, body: Shelf) -> Response:
    """Shelve the alert: mute it for at most a day, or an hour for high priority (clinical.md 5.3)."""
    if (body.until is None) == (body.minutes is None):
        raise InvalidRequest("until", "give either until or minutes")
    if body.until is not None:
        field, until_ns = "until", parse_time(body.until, "until")
    else:
        field, until_ns = "minutes", deps.clock.now_ns() + (body.minutes or 0) * MINUTE_NS
    try:
        return _act(deps, caller, ControlKind.SHELVE, alert, {"until_ns": until_ns, "reason": body.reason})
    except InvalidRequest as error:
        # What refuses speaks of the log entry; the caller knows their own words.
        if error.field != "until_ns":
            raise
        raise InvalidRequest(field, str(error).removeprefix("until_ns: ")) from error


def _note(body: Remark | None) -> str:
    return "" if body is None else body.note


def _act(deps: Dependencies, caller: Principal, kind: ControlKind, alert: str, body: dict[str, Any]) -> Response:
    known = deps.book.alert(alert)
    deps.controls.submit(Control(kind, deps.clock.now_ns(), caller.name, {"alert": known.id} | body))
    return answer(_shown(deps, alert))


def _shown(deps: Dependencies, alert: str) -> Json:
    events = [alert_event_json(event) for event in deps.book.events(alert)]
    return alert_json(deps.book.alert(alert)) | {"events": events}
