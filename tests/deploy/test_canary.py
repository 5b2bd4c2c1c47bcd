"""The canary: the whole way is checked all the time, nobody sees it, and it is told once when it has no answer."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import Running
from tests.support import eventually
from vitals.canary import CANARY_DEVICE, CANARY_PATIENT

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
    gateway = checked.child("gateway")
    assert gateway is not None
    gateway.send_signal(signal.SIGSTOP)
    try:
        (alert,) = eventually(lambda: checked.get("alerts")["items"], within_s=30, what="the technical alert")  # type: ignore[misc]
        assert (alert["patient"], alert["rule"], alert["severity"]) == ("", "technical:canary", "S2")
        assert "canary_failing" in checked.readiness()
        assert checked.get("system")["canary"]["late"]
    finally:
        gateway.send_signal(signal.SIGCONT)

    def over() -> bool:
        return bool(checked.get(f"alerts/{alert['id']}")["state"] == "resolved")

    eventually(over, within_s=30, what="the canary is answered again")
    proved(checked)
    assert [one["id"] for one in checked.get("alerts")["items"]] == [alert["id"]]
    checked.until_ready()
