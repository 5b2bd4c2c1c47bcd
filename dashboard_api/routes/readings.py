"""A patient's vital signs: the newest of each, and series as columns."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response

from dashboard_api.auth.access import Permission, needs
from dashboard_api.dependencies import Dependencies, Deps, Live
from dashboard_api.newest import Newest
from dashboard_api.routes.paging import after_cursor
from dashboard_api.schemas import DEFAULT_POINTS, MAX_RAW, SeriesQuery, TrendQuery, WardQuery
from dashboard_api.shapes import Json, answer, page, whole, window_json
from dashboard_api.times import FIRST_NS, LAST_NS, parse_time
from vitals.canary import is_canary
from vitals.catalog import BY_CODE, BY_KEY, Vital
from vitals.errors import InvalidRequest
from vitals.records import Trends, Window
from vitals.times import HOUR_NS, SECOND_NS, rfc3339

router = APIRouter(tags=["readings"])
FINEST_FIRST: Final = ("raw", "1m", "1h", "1d")
TREND_SLOTS: Final = 24
STORE_QUERIES: Final = 4
"""Queries of the store at once; more wait their turn, so that a burst of charts cannot starve the rest."""
Result = TypeVar("Result")


async def bounded(request: Request, work: Callable[[], Result]) -> Result:
    """What ``work`` returns, from a thread; ``STORE_QUERIES`` at once."""
    state = request.app.state
    if not hasattr(state, "store_queries"):
        state.store_queries = CapacityLimiter(STORE_QUERIES)
    return await to_thread.run_sync(work, limiter=state.store_queries)


@router.get("/patients/{patient}/latest", **needs(Permission.VITALS_READ))
async def latest(request: Request, deps: Deps, live: Live, patient: str) -> Response:
    """The newest reading of each vital sign with its age. `stale` means that the value must not be used as current.
    A reading whose time is uncertain has `time_uncertain`, and in `trusted` the newest reading of a certain time."""

    def read() -> Response:
        deps.registry.patient(patient)
        request.app.state.hub.start()
        now_ns = deps.clock.now_ns()
        return answer(whole([_aged(newest, now_ns) for newest in live.latest(patient, now_ns)]))

    return await bounded(request, read)


@router.get("/latest", **needs(Permission.VITALS_READ))
async def latest_of_all(request: Request, deps: Deps, live: Live, query: Annotated[WardQuery, Query()]) -> Response:
    """The same for all patients, or for each given `patient`: `{"patient", "readings"}`, by creation."""

    def read() -> Response:
        request.app.state.hub.start()
        tokens = _asked(deps, query)
        now_ns = deps.clock.now_ns()
        found = live.latest_many(tokens[: query.limit], now_ns)

        def shape(token: str) -> Json:
            return {"patient": token, "readings": [_aged(newest, now_ns) for newest in found[token]]}

        return answer(page(tokens, query.limit, shape, str))

    return await bounded(request, read)


@router.get("/trends", **needs(Permission.VITALS_READ))
async def trends(request: Request, deps: Deps, query: Annotated[TrendQuery, Query()]) -> Response:
    """The last `hours` of all patients, or of each given `patient`, as 24 means per vital sign. Slot i begins at
    `start` + i * `step_s`; it is null if nothing was measured."""

    def read() -> Response:
        tokens = _asked(deps, query)
        width_ns = query.hours * HOUR_NS // TREND_SLOTS
        start_ns = (deps.clock.now_ns() // width_ns + 1 - TREND_SLOTS) * width_ns
        end_ns = start_ns + TREND_SLOTS * width_ns
        found = _slots(deps.store.trends(tokens[: query.limit], start_ns, end_ns, width_ns))
        body = page(tokens, query.limit, lambda token: {"patient": token, "vitals": found.get(token, {})}, str)
        return answer({"start": rfc3339(start_ns), "step_s": width_ns // SECOND_NS} | body)

    return await bounded(request, read)


def _asked(deps: Dependencies, query: WardQuery) -> Sequence[str]:
    """Up to ``limit + 1`` patients of the page."""
    chosen = [deps.registry.patient(token).id for token in dict.fromkeys(query.patient)]
    everybody = [one.id for one in deps.registry.patients() if not is_canary(one.id)]
    return after_cursor(chosen or everybody, query, str)


def _slots(trends: Trends) -> dict[str, dict[str, list[float | None]]]:
    """Rows as a list of ``TREND_SLOTS`` means for each patient and vital sign; words have no mean."""
    out: dict[str, dict[str, list[float | None]]] = {}
    columns = (trends.patient, trends.vital.tolist(), trends.slot.tolist(), trends.value.round(2).tolist())
    for patient, code, slot, value in zip(*columns, strict=True):
        vital = BY_CODE[code]
        if not vital.values:
            series = out.setdefault(patient, {}).setdefault(vital.key, [None] * TREND_SLOTS)
            series[slot] = value
    return out


@router.get("/patients/{patient}/readings", **needs(Permission.VITALS_READ))
async def series(request: Request, deps: Deps, patient: str, query: Annotated[SeriesQuery, Query()]) -> Response:
    """One vital sign as columns, oldest first, `start <= time < end`. `1d` is by days of the patient's time zone, whose
    starts are in `time` and dates in `day`; a day has 23 or 25 hours where clocks change. `auto` selects the finest
    resolution with at most `max_points` points. `next` is the start of the rest that did not fit into the answer."""
    vital = BY_KEY.get(query.vital)
    if vital is None or vital.panel:
        raise InvalidRequest("vital", "no such vital sign" if vital is None else f"ask for {', '.join(vital.panel)}")
    start_ns = FIRST_NS if query.start is None else parse_time(query.start, "start")
    end_ns = LAST_NS if query.end is None else parse_time(query.end, "end")
    if end_ns <= start_ns:
        raise InvalidRequest("end", "must be after start")

    def read() -> Response:
        return answer(_series(deps, patient, vital, start_ns, end_ns, query))

    return await bounded(request, read)


def _series(deps: Dependencies, patient: str, vital: Vital, start_ns: int, end_ns: int, query: SeriesQuery) -> Json:
    zones = deps.registry.zones(patient)
    window_of = partial(deps.store.window, patient, vital.code, start_ns, end_ns, zones=zones)
    if query.resolution != "auto":
        points = query.max_points or MAX_RAW
        window = window_of(resolution=query.resolution, limit=points + 1)
    else:
        points = query.max_points or DEFAULT_POINTS
        for resolution in FINEST_FIRST:
            window = window_of(resolution=resolution, limit=points + 1)
            if len(window.time_ns) <= points:
                break
    return window_json(vital, *_fitted(window, points), zones)


def _fitted(window: Window, points: int) -> tuple[Window, int | None]:
    """The first ``points`` rows and where the rest starts. Readings of one instant stay together."""
    if len(window.time_ns) <= points:
        return window, None
    next_ns = int(window.time_ns[points])
    kept = int(np.searchsorted(window.time_ns[: points + 1], next_ns))
    if kept == 0:
        kept, next_ns = points, next_ns + 1
    columns = {
        name: getattr(window, name)[:kept]
        for name in ("time_ns", "value", "minimum", "maximum", "count", "flags", "device", "seq", "basis")
    }
    return Window(window.resolution, **columns), next_ns


def _aged(newest: Newest, now_ns: int) -> Json:
    vital = BY_CODE[newest.vital]
    # A measurement cannot be younger than nothing: the clocks of device and server differ a little.
    age_ns = max(0, now_ns - newest.measured_ns)
    stale = not newest.timed or age_ns > vital.staleness_ns(vital.mode)
    aged = {"age_s": round(age_ns / SECOND_NS, 3) if newest.timed else None, "stale": stale}
    doubt = {} if newest.timed else {"time_uncertain": True, "trusted": newest.trusted}
    return {**newest.reading, **aged, **doubt}
