"""Backtests: alerts that other rules would have raised on stored readings."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from dashboard_api.auth.access import Caller, Permission, needs
from dashboard_api.dependencies import BacktestOrder, Dependencies, Deps
from dashboard_api.problems import problem
from dashboard_api.schemas import NewBacktest, TimelineQuery
from dashboard_api.shapes import answer, whole
from dashboard_api.times import parse_time
from vitals.canary import is_canary
from vitals.errors import InvalidRequest
from vitals.times import DAY_NS, SECOND_NS

router = APIRouter(tags=["backtests"])
DEFAULT_DAYS: Final = 7
MAX_DAYS: Final = 92
MAX_PATIENT_DAYS: Final = 100_000


@router.post("/backtests", status_code=202, **needs(Permission.LIMITS_WRITE))
def start_backtest(deps: Deps, caller: Caller, body: NewBacktest) -> Response:
    """Start a backtest of the readings that arrived in `from <= time < to` (default: the last 7 days). `protocol` is a
    protocol document or a list of limits; `against` is another one, or by default the rules in force. Without
    `patients` all patients are judged. 202 with an id; 409 while another backtest runs. With `as_measured` each reading
    is judged as if it had arrived when it was measured. With `events`, labelled onsets, the result has the sensitivity
    of each rule set by severity: an onset is found when an alert was told from 60 minutes before to 10 after it."""
    chosen = tuple(deps.registry.patient(token).id for token in dict.fromkeys(body.patients))
    patients = chosen or tuple(one.id for one in deps.registry.patients() if not is_canary(one.id))
    start_ns, end_ns = _period(deps, body)
    if len(patients) * (end_ns - start_ns) > MAX_PATIENT_DAYS * DAY_NS:
        raise InvalidRequest(
            "patients", f"more than {MAX_PATIENT_DAYS} days of patients: name fewer, or a shorter time"
        )
    events = tuple((one.patient, parse_time(one.time, "events")) for one in body.events)
    strange = {patient for patient, _ in events} - {*patients}
    if strange:
        raise InvalidRequest("events", f"{len(strange)} patients are not among those of the backtest")
    order = BacktestOrder(
        caller.name, body.protocol, body.against, patients, start_ns, end_ns, body.as_measured, events
    )
    begun = deps.backtests.start(order)
    if begun is None:
        return problem(409, "a backtest is running")
    return answer(begun, 202, {"Location": f"/api/v1/backtests/{begun['backtest']}"})


@router.get("/backtests", **needs(Permission.LIMITS_READ))
def list_backtests(deps: Deps) -> Response:
    """The last few backtests since the start of the pipeline, newest first, without results."""
    return answer(whole(deps.backtests.states()))


@router.get("/backtests/{backtest}", **needs(Permission.LIMITS_READ))
def get_backtest(deps: Deps, backtest: str) -> Response:
    """One backtest. `state` is running, done or failed; the result is present when it is done."""
    return answer(deps.backtests.state(backtest))


@router.get("/backtests/{backtest}/timeline", **needs(Permission.LIMITS_READ))
def get_timeline(deps: Deps, backtest: str, query: Annotated[TimelineQuery, Query()]) -> Response:
    """Alerts under both rule sets, by patient and time; `match` is kept, new or gone."""
    after = int(query.cursor or 0)
    found = deps.backtests.timeline(
        backtest, patient=query.patient, match=query.match, after=after, limit=query.limit + 1
    )
    more = len(found) > query.limit
    return answer({"items": found[: query.limit], "next": str(after + query.limit) if more else None})


def _period(deps: Dependencies, body: NewBacktest) -> tuple[int, int]:
    now_ns = deps.clock.now_ns() // SECOND_NS * SECOND_NS
    end_ns = now_ns if body.to is None else min(parse_time(body.to, "to"), now_ns)
    start_ns = end_ns - DEFAULT_DAYS * DAY_NS if body.from_ is None else parse_time(body.from_, "from")
    if not 0 <= start_ns < end_ns:
        raise InvalidRequest("from", "must be after 1970, before to and before now")
    if end_ns - start_ns > MAX_DAYS * DAY_NS:
        raise InvalidRequest("from", f"more than {MAX_DAYS} days before to")
    return start_ns, end_ns
