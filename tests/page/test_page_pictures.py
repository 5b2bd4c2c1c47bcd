"""Pictures for the documentation, kept when ``VITALGATE_PICTURES`` names a directory; what they show is checked."""

import math
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.conftest import LONG, Ward, limit, open_page, readings, sign_in

pytestmark = pytest.mark.browser
DESK, PHONE = {"width": 1280, "height": 840}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def busy(ward: Ward) -> str:
    """A ward with something of everything; the token of the patient with charts."""
    ada = ward.admit("Ada Example", "pic-1", limit(90), limit(93, "S2"))
    steps = [step for step in range(480, 1, -1) if not 170 < step < 260 and not 22 < step < 40]  # two gaps
    ward.publish("pic-1", readings(*((step * 300, 95 + round(1.6 * math.sin(step / 14))) for step in steps)))
    ward.publish(
        "pic-1",
        readings(
            *((step * 300, 82 + round(4 * math.sin(step / 9))) for step in range(60, 0, -1)),
            vital="heart_rate",
            unit="/min",
        ),
    )
    ward.read("pic-1", "spo2", 86, "%")
    ward.read("pic-1", "heart_rate", 104, "/min")
    ward.admit(LONG, "pic-2", limit(92, "S2"))
    for vital, value, unit in (
        ("heart_rate", 118, "/min"),
        ("spo2", 91, "%"),
        ("glucose", 342, "mg/dL"),
        ("bp_sys", 148, "mm[Hg]"),
        ("bp_dia", 92, "mm[Hg]"),
        ("weight", 132.4, "kg"),
    ):
        ward.read("pic-2", vital, value, unit)
    ward.admit("Bo Example", "pic-3", limit(95, "S3"))
    ward.read("pic-3", "spo2", 94, "%")
    ward.read("pic-3", "temp", 36.7, "Cel", ago_s=20 * 3600)
    ward.admit("Cem Example", "pic-4")
    ward.publish("pic-4", "{not json")
    return ada


def keep(page: Page, name: str) -> None:
    if "VITALGATE_PICTURES" in os.environ:
        page.screenshot(path=str(Path(os.environ["VITALGATE_PICTURES"]) / f"{name}.png"))


@pytest.mark.parametrize(
    ("name", "theme", "size"), [("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE)]
)
def test_ward_and_patient(ward: Ward, busy: str, browser: Browser, name: str, theme: str, size: dict[str, int]) -> None:
    watched = open_page(browser, viewport=size, color_scheme=theme)
    page = sign_in(ward, watched)
    expect(page.locator("table.ward tbody tr").first).to_contain_text("Ada Example")
    expect(page.locator("table.ward")).to_contain_text("stale 20 h")
    keep(page, f"ward-{name}")
    page.goto(f"{ward.running.ready['http']}/#/patient/{busy}?range=24h")
    expect(page.locator('[data-vital="spo2"] canvas')).to_be_visible()
    page.locator('[data-vital="spo2"]').scroll_into_view_if_needed()
    area = page.locator('[data-vital="spo2"] .u-over').bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] - 2, area["y"] + 40)
    expect(page.locator('[data-vital="spo2"] .u-legend')).to_contain_text("%")
    keep(page, f"patient-{name}")
    page.goto(f"{ward.running.ready['http']}/#/quarantine")
    page.get_by_role("button", name="Show bytes").first.click()
    expect(page.locator(".hex").first).to_contain_text("7b 6e 6f 74")
    keep(page, f"quarantine-{name}")
    page.context.close()
    assert watched.complaints == []
