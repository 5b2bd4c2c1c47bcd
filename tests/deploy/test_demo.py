"""``make demo`` is ``vitalgate up --demo``: a ward that has something to acknowledge within a minute."""

import signal
from pathlib import Path

import psutil

from tests.deploy.conftest import Running
from tests.support import eventually


def test_the_demo_ward_alerts_within_a_minute_and_a_second_start_goes_on_with_it(data: Path) -> None:
    first = Running(data, "--demo")
    recorded = 2100
    try:
        alert = eventually(lambda: first.get("alerts")["items"], within_s=60, what="an alert to acknowledge")
        assert isinstance(alert, list)
        acknowledged = first.request("POST", f"alerts/{alert[0]['id']}/acknowledge", json={})
        assert acknowledged["state"] in {"active_ack", "resolved"}
        patients = eventually(lambda: _patients(first, 24), within_s=60, what="24 patients")
        eventually(lambda: first.get("quarantine")["items"], within_s=60, what="the faulty device's garbage")
        (sensor,) = [item for item in patients if item["name"].startswith("Recording")]
        found = eventually(
            lambda: _glucose(first, sensor["patient"], 200), within_s=30, what="history of the recording"
        )
        assert len(found) < recorded, "the rest is still to come"
        children = psutil.Process(first.process.pid).children(recursive=True)
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(60) == 0
        assert not [child for child in children if child.is_running()], "Ctrl-C ends all of it"
    finally:
        first.stop()
    second = Running(data, "--demo")
    try:
        before = second.get("system")["conservation"]["messages"]["received"]
        eventually(
            lambda: second.get("system")["conservation"]["messages"]["received"] > before + 50,
            within_s=60,
            what="traffic",
        )
        assert len(_patients(second, 24)) == 24
    finally:
        assert second.stop() == 0


def _patients(running: Running, count: int) -> list[dict[str, str]]:
    items = running.get("patients", limit=100)["items"]
    return list(items) if len(items) >= count else []


def _glucose(running: Running, patient: str, count: int) -> list[float]:
    found = running.get(f"patients/{patient}/readings", vital="glucose_isf", resolution="raw")["value"]
    return list(found) if len(found) >= count else []
