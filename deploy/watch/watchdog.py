"""The watchdog: a pipeline that falls behind is one technical alert of the site, not one of every patient.

It compares the clock with the time up to which the engine has evaluated, once a second, and tells the log when that
falls behind by more than the setting ``alerts.lag_s`` and when it has caught up. What it told before it was started
anew it reads from the book.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from alerts.cases.lifecycle import technical_rule
from vitals.encoding import encode
from vitals.errors import BackendError
from vitals.glossary import AlertState, ControlKind
from vitals.model import Control
from vitals.ports import AlertReader, Clock, Log

_log = structlog.get_logger(__name__)
CAUSE: Final = "pipeline_lag"
LOOK_S: Final = 1.0
STREAM: Final = "vitals"
OPEN: Final = tuple(state for state in AlertState if state is not AlertState.RESOLVED)


class Trouble:
    """A trouble of the site, told to the log when it begins and when it ends: one alert.

    Whether it was told before this process started is read from the book.
    """

    def __init__(self, cause: str, author: str, log: Log, book: AlertReader, clock: Clock) -> None:
        self._cause, self._author = cause, author
        self._log, self._book, self._clock = log, book, clock
        self._told: bool | None = None

    def told(self) -> bool:
        """Whether it began and did not end, as far as the log was told."""
        if self._told is None:
            rule = technical_rule(self._cause)
            self._told = any(alert.rule == rule for alert in self._book.alerts(states=OPEN, patient=""))
        return self._told

    def tell(self, active: bool, since_ns: int) -> None:
        """Append a control entry when this is news; raises ``BackendError``, and then it may be told again."""
        if active == self.told():
            return
        body: dict[str, Any] = {"cause": self._cause, "active": active, "since_ns": since_ns}
        control = Control(ControlKind.TECHNICAL, self._clock.now_ns(), self._author, body)
        self._log.append([(STREAM, encode(control))])
        self._told = active
        _log.warning(self._cause, active=active)


class Watchdog:
    """Tells the log when the pipeline is more than ``lag_s`` behind, and when no more than half of that.

    It keeps quiet for the first ``lag_s`` after it was made: what piled up while the core was down is not a lag yet.
    ``uptime_s`` is a monotonic clock. While ``turning``, gateway and core may go by different times of a machine whose
    clock was moved: then nothing is compared.
    """

    def __init__(
        self, log: Log, book: AlertReader, clock: Clock, lag_s: float, uptime_s: Callable[[], float] = time.monotonic,
        turning: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._book, self._clock, self._lag_ns, self._turning = book, clock, int(lag_s * 1e9), turning
        self._uptime_s, self._quiet_until_s = uptime_s, uptime_s() + lag_s
        self._trouble = Trouble(CAUSE, "watchdog", log, book, clock)
        self.late = False
        """Whether the pipeline is behind, as of the last look; true too when the log could not be told."""

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
        if self._turning():
            return
        evaluated_to_ns = self._book.evaluated_to_ns()
        behind_ns = self._clock.now_ns() - evaluated_to_ns
        if not self.late and behind_ns > self._lag_ns and self._uptime_s() >= self._quiet_until_s:
            self.late = True
        elif self.late and 2 * behind_ns <= self._lag_ns:
            self.late = False
        # What was told before this process started holds until the pipeline has caught up.
        if self.late or 2 * behind_ns <= self._lag_ns:
            self._trouble.tell(self.late, evaluated_to_ns)
