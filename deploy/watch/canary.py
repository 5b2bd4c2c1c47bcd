"""The canary: a reading of a patient of the site's own takes the whole way once a minute, and must move an alert.

Gateway (HTTP ingest, with the device's own secret), raw log, ingest, vitals log, engine, alert book: the reading is
beyond a limit of the canary and within it in turn, so that each one begins or ends an alert. An answer that does not
come in time is one technical alert of the site. Should the engine itself be dead nothing can raise that one: then
readiness, metrics and the page say so (``Canary.failing``, the age of ``Canary.proof``).
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import httpx
import structlog

from alerts.rules.limits import parse_limits
from alerts.service import Observation
from deploy.settings import AlertsSection
from deploy.watch.watchdog import OPEN, Trouble
from vitals.canary import CANARY_DEVICE, CANARY_PATIENT, is_canary
from vitals.errors import BackendError, NotFound, VitalgateError
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.ports import AlertDecisions, AlertReader, Clock, Controls, Log
from vitals.records import Assignment, Device, Patient
from vitals.times import MILLISECOND_NS

_log = structlog.get_logger(__name__)
CAUSE: Final = "canary"
AUTHOR: Final = "canary"
VITAL, UNIT, WITHIN, BEYOND = "body_fat", "%", 20.0, 40.0
"""A vital sign that no score reads."""
LIMITS: Final = (
    {"vital": VITAL, "unit": UNIT, "low": None, "high": 30.0, "severity": "S3", "deadband": 0.0, "on_delay_s": 0.0,
     "off_delay_s": 0.0},
)  # fmt: skip
_ACCEPTED: Final = 202
_AGAIN_S: Final = 0.2


class CanaryRegistry(Protocol):
    """What the canary needs of the registry."""

    def patient(self, patient: str) -> Patient:
        """Raises ``NotFound``."""

    def add_patient(self, *, token: str) -> Patient:
        """A new patient."""

    def device(self, device: str) -> Device:
        """Raises ``NotFound``."""

    def enrol(self, adapter: str, *, device: str) -> tuple[Device, str]:
        """A new device and its secret."""

    def rotate(self, device: str) -> str:
        """A new secret."""

    def assignments(self, *, device: str) -> list[Assignment]:
        """Who wears the device."""

    def assign(self, device: str, patient: str, *, from_ns: None, to_ns: None) -> Assignment:
        """Assign the device to the patient for all time."""


class Proof(NamedTuple):
    """The last answer: when it came, and how long after the reading was published."""

    at_ns: int
    seconds: float


class Canary:
    """Publishes to ``gateway`` and waits for :meth:`observe`, which the alert service calls for what is in the book.

    It tells no trouble in the first ``canary_every_s`` after it was made: a start takes its time. Patient, device and
    limit are made when they are missing; the secret is made anew by each process and kept nowhere.
    """

    def __init__(
        self, registry: CanaryRegistry, controls: Controls, log: Log, book: AlertReader, decisions: AlertDecisions,
        clock: Clock, gateway: httpx.BaseTransport, settings: AlertsSection,
        uptime_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._registry, self._controls, self._clock = registry, controls, clock
        self._book, self._decisions = book, decisions
        self._gateway = httpx.Client(transport=gateway, base_url="http://gateway", timeout=settings.canary_s)
        self._every_s, self._within_s = settings.canary_every_s, settings.canary_s
        self._uptime_s, self._quiet_until_s = uptime_s, uptime_s() + self._every_s
        self._trouble = Trouble(CAUSE, AUTHOR, log, book, clock)
        self._secret = ""
        self._told = threading.Condition()
        self._told_ns: list[int] = []
        self.proof: Proof | None = None
        self.failing = False
        """Whether the last reading had no answer, a while after the start."""

    def run(self, stop: threading.Event) -> None:
        """Check until ``stop``, sooner again after a failure; raises ``BackendError`` that is not retryable."""
        with self._gateway:
            while not stop.is_set():
                answered = self.check(stop)
                stop.wait(self._every_s if answered else min(self._every_s, self._within_s))

    def retire(self, stop: threading.Event) -> None:
        """A canary that is switched off leaves no limit and no trouble behind."""
        with self._gateway:
            while not stop.is_set():
                try:
                    if self._decisions.limits(CANARY_PATIENT)[1]:
                        self._limit([])
                    self._trouble.tell(False, self._clock.now_ns())
                    break
                except VitalgateError as error:
                    _waits(error)
                    stop.wait(self._within_s)

    def observe(self, seen: Observation) -> None:
        """Take in one recorded event, from the thread of the alert service."""
        if is_canary(seen.event.patient):
            with self._told:
                self._told_ns += [value["time_ns"] for value in seen.event.values]
                self._told.notify_all()

    def check(self, stop: threading.Event) -> bool:
        """Send one reading on its way; whether its alert event came in time. Tells the log when that is news."""
        started_ns, started_s = self._clock.now_ns() // MILLISECOND_NS * MILLISECOND_NS, self._uptime_s()
        try:
            seconds = self._answer(started_ns, started_s + self._within_s, stop)
            if seconds is not None:
                self.proof, self.failing = Proof(self._clock.now_ns(), seconds), False
                self._trouble.tell(False, started_ns)
            elif not stop.is_set() and self._uptime_s() >= self._quiet_until_s:
                self.failing = True
                self._trouble.tell(True, started_ns)
        except VitalgateError as error:
            _waits(error)
            self.failing = self._uptime_s() >= self._quiet_until_s
            return False
        return seconds is not None

    def _answer(self, time_ns: int, deadline_s: float, stop: threading.Event) -> float | None:
        """Seconds from publishing to the event in the book; None when it did not come."""
        self._prepare()
        mine = self._book.alerts(states=OPEN, patient=CANARY_PATIENT)
        is_open = any(alert.rule.startswith("limit:") for alert in mine)
        with self._told:
            self._told_ns = []
        published_s = self._publish(time_ns, WITHIN if is_open else BEYOND, deadline_s, stop)
        if published_s is None:
            return None
        with self._told:
            while not self._told_ns:
                left_s = deadline_s - self._uptime_s()
                if left_s <= 0 or stop.is_set():
                    return None
                self._told.wait(min(left_s, _AGAIN_S))
            # An earlier reading that came through late was told in the place of this one.
            return self._uptime_s() - published_s if time_ns in self._told_ns else None

    def _publish(self, time_ns: int, value: float, deadline_s: float, stop: threading.Event) -> float | None:
        """When the gateway was given the reading that it acknowledged; None when it did not, for all asking again."""
        reading = {"vital": VITAL, "value": value, "unit": UNIT, "time": time_ns // MILLISECOND_NS}
        while (left_s := deadline_s - (now_s := self._uptime_s())) > 0 and not stop.is_set():
            try:
                answer = self._gateway.post(
                    f"/v1/devices/{CANARY_DEVICE}/readings", params={"adapter": "json"}, json=reading,
                    auth=(CANARY_DEVICE, self._secret), timeout=left_s,
                )  # fmt: skip
            except httpx.TransportError:
                stop.wait(_AGAIN_S)
                continue
            if answer.status_code == _ACCEPTED:
                return now_s
            if answer.status_code in {401, 403}:
                # Somebody gave the device another secret: a new one is made for the next reading.
                self._secret = ""
                return None
            stop.wait(_AGAIN_S)
        return None

    def _prepare(self) -> None:
        """Create the canary's patient, device, assignment, secret and limit if they are missing."""
        if not self._secret:
            try:
                self._registry.patient(CANARY_PATIENT)
            except NotFound:
                self._registry.add_patient(token=CANARY_PATIENT)
            try:
                self._registry.device(CANARY_DEVICE)
                secret = self._registry.rotate(CANARY_DEVICE)
            except NotFound:
                _, secret = self._registry.enrol("json", device=CANARY_DEVICE)
            if not self._registry.assignments(device=CANARY_DEVICE):
                self._registry.assign(CANARY_DEVICE, CANARY_PATIENT, from_ns=None, to_ns=None)
            self._secret = secret
        if parse_limits(self._decisions.limits(CANARY_PATIENT)[1]) != parse_limits(list(LIMITS)):
            self._limit(list(LIMITS))

    def _limit(self, limits: list[dict[str, Any]]) -> None:
        body = {"patient": CANARY_PATIENT, "reason": "end-to-end check", "limits": limits}
        self._controls.revise(Control(ControlKind.LIMITS, self._clock.now_ns(), AUTHOR, body))


def _waits(error: VitalgateError) -> None:
    """Log transient errors; raise all others."""
    if isinstance(error, BackendError) and not error.retryable:
        raise error
    _log.error("canary_waits", error=str(error))
