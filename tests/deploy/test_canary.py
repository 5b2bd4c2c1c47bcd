"""The canary: the whole way is checked all the time, nobody sees it, and it is told once when it has no answer."""

import base64
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine
from alerts.service import AlertService, ControlDesk, Observation
from deploy.settings import AlertsSection
from deploy.watch.canary import LIMITS, Canary
from tests.deploy.conftest import Running
from tests.ingest.ingest_world import DAY, World
from tests.support import eventually
from vitals.canary import CANARY_DEVICE, CANARY_PATIENT
from vitals.glossary import ControlKind
from vitals.model import Control

WITHIN_S = 2.0


@pytest.fixture
def checked(data: Path) -> Iterator[Running]:
    """``vitalgate up`` that is checked each second."""
    data.mkdir()
    config = data.parent / "settings.toml"
    config.write_text(f"[alerts]\ncanary_every_s = 1\ncanary_s = {WITHIN_S}\n")
    up = Running(data, "--config", str(config))
    yield up
    up.stop()


def proved(running: Running, after: str = "") -> Any:
    """What ``system`` says of the canary once it was answered later than ``after``."""

    def answered() -> Any:
        canary = running.get("system")["canary"]
        return canary if (canary["last_success"] or "") > after and not canary["late"] else None

    return eventually(answered, within_s=30, what="the canary is answered")


def metrics(running: Running) -> dict[str, float]:
    lines = running._client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def evaluated(running: Running) -> float:
    return metrics(running)["vitalgate_evaluated_to_timestamp_seconds"]


def later(running: Running, than: float) -> float | None:
    now = evaluated(running)
    return now if now > than else None


def test_the_whole_way_is_checked_and_no_list_shows_it(checked: Running) -> None:
    first = proved(checked)
    assert 0 < first["seconds"] < WITHIN_S
    second = proved(checked, first["last_success"])
    third = proved(checked, second["last_success"])
    page = metrics(checked)
    assert 0 < page["vitalgate_canary_seconds"] < WITHIN_S
    assert page["vitalgate_canary_last_success_timestamp_seconds"] > 1.7e9
    assert third["last_success"] > second["last_success"] > first["last_success"]
    kinds = {
        event["kind"]
        for alert in checked.get("alerts", patient=CANARY_PATIENT)["items"]
        for event in checked.get(f"alerts/{alert['id']}/events")["items"]
    }
    assert kinds == {"raised", "resolved"}, "beyond its limit and within it in turn"
    assert page["vitalgate_device_to_alert_seconds_count"] == 0
    assert not any(name.startswith("vitalgate_alerts{") for name in page)
    for what in ("alerts", "patients", "devices", "latest"):
        assert checked.get(what)["items"] == [], what
    assert checked.get("trends")["items"] == []
    for what in ("patient", "device"):
        assert checked.cli(what, "list", "--json") == {"items": [], "next": None}
    ledger = checked.settled(CANARY_DEVICE)
    assert ledger["messages"]["received"] == ledger["messages"]["decoded"] >= 3
    assert ledger["readings"]["emitted"] == ledger["readings"]["stored"]
    assert checked.get("system")["ledger"]["messages"]["received"] == 0


def test_a_gateway_that_gives_no_answer_is_one_alert_until_it_does(checked: Running) -> None:
    proved(checked)
    assert evaluated(checked) < (
        live := eventually(lambda: later(checked, evaluated(checked)), within_s=30, what="time goes on")
    )
    gateway = checked.child("gateway")
    assert gateway is not None
    gateway.send_signal(signal.SIGSTOP)
    try:
        (alert,) = eventually(lambda: checked.get("alerts")["items"], within_s=30, what="the technical alert")  # type: ignore[misc]
        assert (alert["patient"], alert["rule"], alert["severity"]) == ("", "technical:canary", "S2")
        assert "canary_failing" in checked.readiness()
        assert checked.get("system")["canary"]["late"]
        assert (stands := evaluated(checked)) >= live
        page = checked.get("system")["evaluated_to"]
        assert datetime.fromisoformat(page).timestamp() == pytest.approx(stands, abs=1e-3), "metric and API agree"
    finally:
        gateway.send_signal(signal.SIGCONT)

    def over() -> bool:
        return bool(checked.get(f"alerts/{alert['id']}")["state"] == "resolved")

    eventually(over, within_s=30, what="the canary is answered again")
    proved(checked)
    assert [one["id"] for one in checked.get("alerts")["items"]] == [alert["id"]]
    checked.until_ready()


class Plant:
    """The way without its processes: real registry, logs, ingest, engine and book; ``ingesting`` False stops ingest.

    Time stands still but for :meth:`check`; an answer that cannot come is not waited for.
    """

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.book = SqlAlertBook(f"sqlite:///{folder / 'book.db'}")
        self.uptime_s, self.ingesting, self.sent = 0.0, True, 0
        self.desk = ControlDesk(self.world.log, self.book, self.book, self.world.registry)
        self.canary = self.new_canary()
        self.service = AlertService(self.world.log, self.book, Engine(), self.world.clock, observe=self.observe)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.service.run, args=(self.stop,))
        self.thread.start()

    def new_canary(self) -> Canary:
        world = self.world
        return Canary(
            world.registry, self.desk, world.log, self.book, self.book, world.clock, httpx.MockTransport(self.take),
            AlertsSection(), lambda: self.uptime_s,
        )  # fmt: skip

    def observe(self, seen: Observation) -> None:
        self.canary.observe(seen)

    def take(self, request: httpx.Request) -> httpx.Response:
        """As the gateway: 202 when it is in the raw log."""
        user, _, secret = base64.b64decode(request.headers["authorization"].split()[1]).partition(b":")
        if not self.world.registry.authenticate(user.decode(), secret):
            return httpx.Response(401)
        assert request.url.path == f"/v1/devices/{CANARY_DEVICE}/readings"
        self.world.send(self.world.message(CANARY_DEVICE, request.content, request.url.params["adapter"]))
        self.sent += 1
        if not self.ingesting:
            self.uptime_s += 10.0
        while self.ingesting and self.world.service.step():
            pass
        return httpx.Response(202, json={"received": 1})

    def check(self) -> bool:
        """A minute later; the alerts of the site are in the book when it returns."""
        self.world.clock.advance(60)
        self.uptime_s += 60
        answered = self.canary.check(self.stop)
        assert self.book.wait(self.world.log.end(), 10.0)
        return answered

    def of_the_site(self) -> list[tuple[str, str]]:
        return [(alert.rule, str(alert.state)) for alert in self.book.alerts()]

    def limits(self) -> list[dict[str, Any]]:
        return self.book.limits(CANARY_PATIENT)[1]

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.book.close()
        self.world.close()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.close()


def test_an_ingest_that_stands_still_is_told_once_and_ends_with_the_next_answer(plant: Plant) -> None:
    assert plant.check()
    plant.ingesting = False
    assert not plant.check()
    assert plant.of_the_site() == [("technical:canary", "active_unack")]
    assert plant.canary.failing
    end = plant.world.log.end()
    assert not plant.check()
    assert plant.world.log.end() == end, "nothing is told twice"
    plant.canary = plant.new_canary()
    plant.ingesting = True
    eventually(plant.check, what="what piled up is through")
    assert plant.of_the_site() == [("technical:canary", "resolved")], "by a core that did not tell it"
    assert not plant.canary.failing


def test_no_answer_right_after_the_start_is_no_trouble_yet(plant: Plant) -> None:
    plant.ingesting = False
    plant.uptime_s -= 61
    assert not plant.check()
    assert plant.sent == 1
    assert plant.of_the_site() == []
    assert not plant.canary.failing
    assert not plant.check()
    assert plant.of_the_site() == [("technical:canary", "active_unack")]


def test_each_answer_begins_or_ends_an_alert_that_only_its_own_name_shows(plant: Plant) -> None:
    for _ in range(12):
        assert plant.check(), "it comes and goes, as it should: that is no chatter"
    mine = plant.book.alerts(patient=CANARY_PATIENT)
    assert [str(alert.state) for alert in mine] == ["resolved"] * 6
    assert plant.of_the_site() == []
    assert plant.check()
    assert plant.book.counts() == {}
    plant.world.drain()
    assert plant.world.service.ledgers() == []
    ledger = plant.world.service.ledger(CANARY_DEVICE)
    assert (ledger.messages.received, ledger.messages.decoded, ledger.readings.stored) == (13, 13, 13)


def test_it_is_answered_every_minute_for_an_hour(plant: Plant) -> None:
    assert all(plant.check() for _ in range(60)), "comes and goes, and no suppressor holds it"
    assert len(plant.book.alerts(patient=CANARY_PATIENT)) == 30
    assert plant.of_the_site() == []


def test_what_somebody_changed_of_it_is_put_right(plant: Plant) -> None:
    assert plant.check()
    plant.world.registry.rotate(CANARY_DEVICE)
    assert not plant.check(), "the secret is not its own any more"
    assert plant.check()
    body = {"patient": CANARY_PATIENT, "version": 2, "reason": "", "limits": []}
    plant.desk.submit(Control(ControlKind.LIMITS, plant.world.clock.now_ns(), "nurse", body))
    assert plant.check()
    assert [limit["high"] for limit in plant.limits()] == [LIMITS[0]["high"]]


def test_a_canary_that_is_switched_off_leaves_nothing_behind(plant: Plant) -> None:
    assert plant.check()
    plant.ingesting = False
    assert not plant.check()
    off = plant.new_canary()
    off.retire(threading.Event())
    assert plant.limits() == []
    assert plant.book.wait(plant.world.log.end(), 10.0)
    assert plant.of_the_site() == [("technical:canary", "resolved")]


def test_housekeeping_forgets_its_alerts_and_readings_and_the_ledger_holds(plant: Plant) -> None:
    for _ in range(5):
        assert plant.check()
    patient = plant.world.worn("d")
    plant.world.drain()
    now_ns = plant.world.clock.now_ns()
    assert plant.book.forget(CANARY_PATIENT, now_ns - DAY) == 0
    assert plant.book.forget(patient, now_ns) == 0
    assert plant.book.forget(CANARY_PATIENT, now_ns) == 2
    (left,) = plant.book.alerts(patient=CANARY_PATIENT)
    assert str(left.state) == "active_unack", "what is open stays"
    assert len(plant.book.events_between(0, plant.book.position())) == 1
    assert plant.world.store.erase(CANARY_PATIENT) == 5
    assert plant.check()
    plant.world.drain()
    ledger = plant.world.service.ledger(CANARY_DEVICE)
    assert ledger.readings.emitted == ledger.readings.stored == 6
    assert plant.world.store.rows() == 1
