"""Requests for backtests: one runs at a time, beside the pipeline; the last few results are kept in memory."""

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from alerts.backtest.figures import BacktestResult, Item
from alerts.backtest.labelled import Onset
from alerts.backtest.report import report
from alerts.backtest.rules import HISTORY_NS, Decisions, in_force, rule_set
from alerts.backtest.run import Coverage, RuleSet, Span, as_measured
from dashboard_api.dependencies import BacktestOrder
from deploy.backtest.running import Workers
from vitals.errors import NotFound, VitalgateError
from vitals.ports import AlertDecisions, Clock, Store
from vitals.times import SECOND_NS, rfc3339

KEPT: Final = 8
_log = structlog.get_logger(__name__)


class _Job:
    """One backtest; ``state`` is running, done or failed."""

    def __init__(self, order: BacktestOrder, asked_ns: int) -> None:
        self.id = "b_" + secrets.token_hex(8)
        self.order, self.asked_ns = order, asked_ns
        self.state, self.progress = "running", 0.0
        self.error: str | None = None
        self.result: BacktestResult | None = None
        self.shown: dict[str, Any] | None = None

    def json(self) -> dict[str, Any]:
        """The result without the timeline, which is read in pages."""
        return {
            "backtest": self.id, "state": self.state, "asked": rfc3339(self.asked_ns // SECOND_NS * SECOND_NS),
            "author": self.order.author, "progress": round(self.progress, 3), "error": self.error, "result": self.shown,
        }  # fmt: skip


class BacktestDesk:
    """:class:`dashboard_api.dependencies.Backtests` over store and book. Thread-safe."""

    def __init__(self, store: Store, book: AlertDecisions, clock: Clock) -> None:
        self._store, self._book, self._clock = store, book, clock
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._workers: Workers | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, order: BacktestOrder) -> dict[str, Any] | None:
        """Begin; None while another one runs. Raises ``InvalidRequest`` for rules that are not right."""
        rules = self._rules(order)
        history_ns = max(rule_set.history_ns for rule_set in rules)
        span = Span(order.start_ns, order.end_ns, order.start_ns - history_ns)
        with self._lock:
            if self._closed or any(job.state == "running" for job in self._jobs.values()):
                return None
            job = _Job(order, self._clock.now_ns())
            self._jobs[job.id] = job
            for old in list(self._jobs)[:-KEPT]:
                del self._jobs[old]
            self._thread = threading.Thread(target=self._run, args=(job, rules, span), name="backtest", daemon=True)
            self._thread.start()
        return job.json()

    def states(self) -> list[dict[str, Any]]:
        """The last few, newest first, without their results."""
        return [job.json() | {"result": None} for job in reversed(list(self._jobs.values()))]

    def state(self, backtest: str) -> dict[str, Any]:
        """One, with its result; raises ``NotFound``."""
        return self._job(backtest).json()

    def timeline(
        self, backtest: str, *, patient: str | None, match: str | None, after: int, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Alerts of both rule sets by patient and time, from number ``after`` on; empty until it is done."""
        result = self._job(backtest).result
        items: Sequence[Item] = () if result is None else result.timeline
        chosen = [
            one for one in items if patient in (None, one.patient) and match in (None, one.match)
        ]  # fmt: skip
        return [msgspec.to_builtins(one) for one in chosen[after : after + limit]]

    def close(self) -> None:
        """End the running backtest."""
        with self._lock:
            self._closed = True
            if self._workers is not None:
                self._workers.abort()
        if self._thread is not None:
            self._thread.join()

    def _job(self, backtest: str) -> _Job:
        job = self._jobs.get(backtest)
        if job is None:
            raise NotFound("backtest", backtest)
        return job

    def _rules(self, order: BacktestOrder) -> tuple[RuleSet, RuleSet]:
        """Candidate and reference; rules begin long before the readings, so that no history of theirs is missed."""
        known, patients, at_ns = self._decisions(order.patients), order.patients, order.start_ns - HISTORY_NS
        candidate = rule_set("candidate", order.protocol, patients, known, at_ns)
        if order.against is None:
            return candidate, in_force(known, patients, at_ns)
        return candidate, rule_set("against", order.against, patients, known, at_ns)

    def _decisions(self, patients: Sequence[str]) -> Decisions:
        book = self._book
        limits = {patient: book.limits(patient)[1] for patient in patients}
        contexts = {patient: book.context(patient) for patient in patients}
        enrolments = {patient: book.enrolment(patient) for patient in patients}
        return Decisions(
            {patient: found for patient, found in limits.items() if found},
            {patient: found.body for patient, found in contexts.items() if found is not None},
            {patient: found.body for patient, found in enrolments.items() if found is not None},
            {one.subject: one.body for one in book.programmes()},
        )

    def _run(self, job: _Job, rules: Sequence[RuleSet], span: Span) -> None:
        try:
            job.result = self._replay(job, rules, span)
            job.shown = {name: value for name, value in msgspec.to_builtins(job.result).items() if name != "timeline"}
            job.progress, job.state = 1.0, "done"
        except VitalgateError as error:
            job.error, job.state = str(error), "failed"
        except Exception as error:  # noqa: BLE001 - whatever ends it, the job says so
            _log.exception("backtest_failed", error=type(error).__name__)
            job.error, job.state = "unexpected error", "failed"

    def _replay(self, job: _Job, rules: Sequence[RuleSet], span: Span) -> BacktestResult:
        order, coverage = job.order, Coverage(span)
        batches = self._store.arrivals(order.patients, span.from_ns, span.end_ns, measured=order.measured)

        def reached(time_ns: int) -> None:
            job.progress = (time_ns - span.from_ns) / (span.end_ns - span.from_ns)

        workers = Workers(rules, span, order.patients)
        try:
            with self._lock:
                self._workers = workers
                if self._closed:
                    raise VitalgateError("the pipeline ends")
            outcomes = workers.run(map(as_measured, batches) if order.measured else batches, coverage, reached)
        finally:
            with self._lock:
                self._workers = None
            workers.close()
        events = [Onset(*one) for one in order.events if span.start_ns <= one[1] < span.end_ns]
        return report(span, order.patients, coverage, rules, outcomes, measured=order.measured, events=events)
