"""A browser in front of a real ``vitalgate up``; what its console says is part of every test."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.deploy.conftest import Running

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LONG = "Maximiliane-Alexandrina von Habsburg-Lothringen y Fernández de la Vega"


def limit(low: float, severity: str = "S1") -> dict[str, Any]:
    """SpO2 under ``low`` percent."""
    return {"vital": "spo2", "unit": "%", "low": low, "high": None, "severity": severity, "deadband": 2.0,
            "on_delay_s": 0.0, "off_delay_s": 0.0}  # fmt: skip


class Ward:
    """A running pipeline, and people with a device each."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.secrets: dict[str, str] = {}

    def admit(self, name: str, device: str, *limits: dict[str, Any]) -> str:
        """A patient who wears a device, with limits; their token."""
        patient = str(self.running.request("POST", "patients", json={"name": name, "zone": "Europe/Berlin"})["patient"])
        enrolled = self.running.request("POST", "devices", json={"adapter": "json", "id": device})
        self.secrets[device] = enrolled["secret"]
        self.running.request("POST", f"devices/{device}/assign", json={"patient": patient})
        self.running.request("PUT", f"patients/{patient}/limits", json=list(limits))
        return patient

    def publish(self, device: str, payload: str, adapter: str = "json") -> None:
        """One message as the device, acknowledged."""
        subprocess.run(
            ["mosquitto_pub", "-h", self.running.host, "-p", str(self.running.port), "-q", "1", "-u", device,
             "-P", self.secrets[device], "-t", f"vitals/{device}/{adapter}", "-s"],
            check=True, timeout=20, input=payload.encode(),
        )  # fmt: skip

    def read(self, device: str, vital: str, value: float, unit: str, ago_s: float = 0.0) -> None:
        """One reading as the device."""
        time = datetime.fromtimestamp(datetime.now(UTC).timestamp() - ago_s, UTC).isoformat()
        self.publish(device, f'{{"vital":"{vital}","value":{value},"unit":"{unit}","time":"{time}"}}')


def readings(*rows: tuple[float, float], vital: str = "spo2", unit: str = "%") -> str:
    """A payload of the json adapter: (seconds ago, value)."""
    now = datetime.now(UTC)
    return json.dumps([
        {"vital": vital, "unit": unit, "value": value, "time": (now - timedelta(seconds=ago_s)).isoformat()}
        for ago_s, value in rows
    ])  # fmt: skip


class Watched:
    """A page, and everything that its console complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    root = Path(tempfile.mkdtemp(prefix="vg-"))
    running = Running(root / "d")
    yield Ward(running)
    running.stop()
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


def open_page(browser: Browser, **options: Any) -> Watched:
    """A page in a browser context of its own: nobody is signed in."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    context.set_default_timeout(15_000)
    return Watched(context.new_page())


def sign_in(ward: Ward, watched: Watched, role: str = "clinician") -> Page:
    """Through the form, with an API token."""
    page = watched.page
    page.goto(ward.running.ready["http"])
    token = ward.running.request("POST", "tokens", json={"role": role})["token"]
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation").wait_for()
    return page


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A page that has to end without an error, a refusal of the content security policy among them."""
    opened = open_page(browser)
    yield opened
    opened.page.context.close()
    assert opened.complaints == []
