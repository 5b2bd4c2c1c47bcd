"""The watchdog: a pipeline that falls behind is one technical alert of the site, not one of every patient.

It compares the clock with the time up to which the engine has evaluated, once a second, and tells the log when that
falls behind by more than the setting ``alerts.lag_s`` and when it has caught up. What it told before it was started
anew it reads from the book.
"""

import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

import structlog

from alerts.lifecycle import technical_rule
from vitals.encoding import encode
from vitals.errors import BackendError
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.ports import Alert, Clock, Log

_log = structlog.get_logger(__name__)
AUTHOR: Final = "watchdog"
CAUSE: Final = "pipeline_lag"
LOOK_S: Final = 1.0
_STREAM: Final = "vitals"
_OPEN: Final = tuple(state for state in AlertState if state is not AlertState.RESOLVED)


class WatchedBook(Protocol):
    """What the watchdog needs of the alert book."""

    def evaluated_to_ns(self) -> int:
        """Everything received before this has been evaluated."""

    def alerts(
        self, *, states: Collection[AlertState] = (), severity: Severity | None = None, patient: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[Alert]:  # fmt: skip
        """Alerts, newest first."""


class Watchdog:
    """Tells the log when the pipeline is more than ``lag_s`` behind, and when no more than half of that.

    It keeps quiet for the first ``lag_s`` after it was made: what piled up while the core was down is not a lag yet.
    ``uptime_s`` is a monotonic clock.
    """

    def __init__(
        self, log: Log, book: WatchedBook, clock: Clock, lag_s: float, uptime_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._book, self._clock, self._lag_ns = log, book, clock, int(lag_s * 1e9)
        self._uptime_s, self._quiet_until_s = uptime_s, uptime_s() + lag_s
        self._told: bool | None = None

    def run(self, stop: threading.Event) -> None:
        """Look once a second until ``stop``; raises ``BackendError`` that is not retryable."""
        while not stop.wait(LOOK_S):
            try:
                self.look()
            except BackendError as error:
                if not error.retryable:
                    raise
                _log.error("watchdog_waits", error=str(error))

    def look(self) -> None:
        """Compare once; append a control entry when a lag began or ended."""
        evaluated_to_ns = self._book.evaluated_to_ns()
        behind_ns = self._clock.now_ns() - evaluated_to_ns
        if self._told is None:
            self._told = self._is_open()
        if not self._told and behind_ns > self._lag_ns and self._uptime_s() >= self._quiet_until_s:
            self._tell(True, evaluated_to_ns)
        elif self._told and 2 * behind_ns <= self._lag_ns:
            self._tell(False, evaluated_to_ns)

    def _is_open(self) -> bool:
        rule = technical_rule(CAUSE)
        return any(alert.rule == rule for alert in self._book.alerts(states=_OPEN, patient=""))

    def _tell(self, active: bool, since_ns: int) -> None:
        body: dict[str, Any] = {"cause": CAUSE, "active": active, "since_ns": since_ns}
        control = Control(ControlKind.TECHNICAL, self._clock.now_ns(), AUTHOR, body)
        self._log.append([(_STREAM, encode(control))])
        self._told = active
        _log.warning("pipeline_lag", active=active)
