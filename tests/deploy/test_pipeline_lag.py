"""A pipeline that stands still is one technical alert of the site, and silence of nobody."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine
from alerts.service import AlertService
from deploy.watch.watchdog import Watchdog
from tests.deploy.conftest import Running
from tests.support import SECOND, FakeClock, eventually
from vitals.encoding import encode
from vitals.log.local import LocalLog
from vitals.model import Tick

LAG_S = 3.0
CGM = {"vital": "glucose_isf", "unit": "mg/dL", "low": 70, "high": 250, "severity": "S2", "deadband": 0,
       "on_delay_s": 0, "off_delay_s": 0}  # fmt: skip


@pytest.fixture
def impatient(data: Path) -> Iterator[Running]:
    """``vitalgate up`` that calls 3 s a lag."""
    data.mkdir()
    config = data.parent / "settings.toml"
    config.write_text(f"[alerts]\nlag_s = {LAG_S}\ncanary = false\n")
    up = Running(data, "--config", str(config))
    yield up
    up.stop()


def test_a_gateway_that_stands_still_is_one_alert_and_nobodys_silence(impatient: Running) -> None:
    patients = [impatient.request("POST", "patients", json={"name": f"Patient {n}"})["patient"] for n in range(3)]
    for patient in patients:
        impatient.request("PUT", f"patients/{patient}/limits", json=[CGM])
    gateway = impatient.child("gateway")
    assert gateway is not None
    gateway.send_signal(signal.SIGSTOP)
    try:
        (alert,) = _eventually_alerts(impatient)
        assert (alert["patient"], alert["rule"], alert["severity"]) == ("", "technical:pipeline_lag", "S2")
        assert alert["state"] == "active_unack"
        assert impatient.get("alerts", patient="")["items"] == [alert]
        taken = impatient.request("POST", f"alerts/{alert['id']}/acknowledge", json={"note": "looking"})
        assert (taken["patient"], taken["state"]) == ("", "active_ack")
    finally:
        gateway.send_signal(signal.SIGCONT)

    def over() -> bool:
        return bool(impatient.get(f"alerts/{alert['id']}")["state"] == "resolved")

    eventually(over, within_s=30, what="the lag is over")
    kinds = [event["kind"] for event in impatient.get(f"alerts/{alert['id']}/events")["items"]]
    assert kinds == ["raised", "acknowledged", "resolved"]
    assert [item["id"] for item in impatient.get("alerts")["items"]] == [alert["id"]]


def _eventually_alerts(running: Running) -> list[dict[str, Any]]:
    found = eventually(lambda: running.get("alerts")["items"], within_s=30, what="the technical alert")
    assert isinstance(found, list)
    return found


class Yard:
    """A real log and book, a watchdog over them, and clocks that move when told."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.log = LocalLog(folder / "vitals.db", self.clock)
        self.book = SqlAlertBook(f"sqlite:///{folder / 'book.db'}")
        self.uptime_s, self.turning = 0.0, False
        self.dog = self.new_dog()

    def new_dog(self) -> Watchdog:
        return Watchdog(self.log, self.book, self.clock, 60.0, lambda: self.uptime_s, lambda: self.turning)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.uptime_s += seconds

    def tick(self) -> None:
        self.log.append([("vitals", encode(Tick(self.clock.now_ns())))])
        self.evaluate()

    def look(self) -> list[str]:
        """The watchdog looks; the states of all alerts after it."""
        self.dog.look()
        self.evaluate()
        return sorted(str(alert.state) for alert in self.book.alerts())

    def evaluate(self) -> None:
        AlertService(self.log, self.book, Engine(), self.clock).run(_CaughtUp(self.log, self.book))


class _CaughtUp:
    """The service's stop event, set once the book stands at the end of the log."""

    def __init__(self, log: LocalLog, book: SqlAlertBook) -> None:
        self._log, self._book = log, book

    def is_set(self) -> bool:
        return self._book.position() == self._log.end()

    def wait(self, _timeout_s: float) -> bool:
        return self.is_set()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    opened = Yard(tmp_path)
    yield opened
    opened.book.close()
    opened.log.close()


def test_what_piled_up_before_the_start_is_no_lag_yet(yard: Yard) -> None:
    yard.tick()
    yard.clock.advance(86_400)
    assert yard.look() == []
    yard.pass_time(59)
    assert yard.look() == []
    yard.pass_time(1)
    assert yard.look() == ["active_unack"]


def test_a_clock_that_is_followed_about_now_is_no_lag(yard: Yard) -> None:
    """The core goes by the new time a second before the gateway does."""
    yard.tick()
    yard.pass_time(60)
    yard.turning = True
    yard.clock.advance(3600)
    assert yard.look() == []
    yard.turning = False
    assert yard.look() == ["active_unack"], "what is still behind afterwards is told"


def test_a_lag_is_told_once_and_ends_when_caught_up(yard: Yard) -> None:
    yard.tick()
    yard.pass_time(60)
    assert yard.look() == [], "at the threshold"
    yard.pass_time(1)
    assert yard.look() == ["active_unack"]
    end = yard.log.end()
    yard.pass_time(600)
    assert yard.look() == ["active_unack"]
    assert yard.log.end() == end, "nothing is told twice"
    yard.tick()
    yard.pass_time(31)
    assert yard.look() == ["active_unack"], "not caught up"
    yard.tick()
    assert yard.look() == ["resolved"]


def test_a_watchdog_that_starts_anew_ends_what_the_one_before_told(yard: Yard) -> None:
    yard.tick()
    yard.pass_time(61)
    assert yard.look() == ["active_unack"]
    yard.dog = yard.new_dog()
    yard.pass_time(100)
    assert yard.look() == ["active_unack"]
    yard.tick()
    assert yard.book.evaluated_to_ns() % SECOND == 0
    assert yard.look() == ["resolved"]
