"""Reports about one patient."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from dashboard_api.auth.access import Permission, needs
from dashboard_api.dependencies import Deps
from dashboard_api.routes.readings import bounded
from dashboard_api.schemas import DEFAULT_REPORT_DAYS, MAX_REPORT_DAYS, ReportQuery
from dashboard_api.shapes import answer
from dashboard_api.times import parse_time
from vitals.days import days_before
from vitals.errors import InvalidRequest
from vitals.times import SECOND_NS

router = APIRouter(tags=["reports"])


@router.get("/patients/{patient}/reports/glucose", **needs(Permission.VITALS_READ))
async def glucose(request: Request, deps: Deps, patient: str, query: Annotated[ReportQuery, Query()]) -> Response:
    """Glucose metrics, daily profile and episodes (clinical.md 3) over `start <= time < end`. `end` defaults to now and
    is never later. Without `start` the report covers `days` (14) of the patient's days before `end`; a day has
    23 or 25 hours where clocks change."""
    now_ns = deps.clock.now_ns() // SECOND_NS * SECOND_NS
    end_ns = now_ns if query.end is None else min(parse_time(query.end, "end"), now_ns)
    if query.start is not None and query.days is not None:
        raise InvalidRequest("days", "either start or days")
    asked_ns = None if query.start is None else parse_time(query.start, "start")

    def read() -> Response:
        zones = deps.registry.zones(patient)
        start_ns = days_before(zones, end_ns, query.days or DEFAULT_REPORT_DAYS) if asked_ns is None else asked_ns
        if not 0 <= start_ns < end_ns:
            raise InvalidRequest("start", "must be after 1970, before end and before now")
        if start_ns < days_before(zones, end_ns, MAX_REPORT_DAYS):
            raise InvalidRequest("start", f"more than {MAX_REPORT_DAYS} days before end")
        return answer(deps.glucose_report(deps.registry.patient(patient), zones, start_ns, end_ns))

    return await bounded(request, read)
