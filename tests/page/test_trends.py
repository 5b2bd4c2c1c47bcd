"""What happened in the last hours: sparks and arrows, limits as they were, values beyond the sensor, a large ward."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.deploy.conftest import Running
from tests.page.conftest import Ward, Watched, limit, open_page, readings, sign_in
from tests.support import eventually

pytestmark = pytest.mark.browser
HOUR = 3600.0
CROWD = 130
LOW_ROWS = 13
CLARITY = (
    "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value (mg/dL),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),Glucose Rate of Change (mg/dL/min)"
)


def cell(page: Page, name: str, label: str) -> Any:
    return page.locator("table.ward tbody tr", has_text=name).locator(f'td[data-label="{label}"]')


def test_a_value_has_its_hours_and_its_direction(ward: Ward, watched: Watched) -> None:
    ward.admit("Spark Person", "spark-1")
    early = [(5 * HOUR - step * 900, 97.0) for step in range(4)]
    late = [(1.7 * HOUR - step * 300, 96.0) for step in range(19)]
    ward.publish("spark-1", readings(*early, *late, (0, 91.0)))
    ward.publish("spark-1", readings((0, 70.0), vital="heart_rate", unit="/min"))
    page = sign_in(ward, watched)
    spo2 = cell(page, "Spark Person", "SpO₂")
    expect(spo2.locator("b")).to_have_text("91")
    expect(spo2.locator(".spark polyline")).to_have_count(2)  # what was not measured between is no line
    expect(spo2.locator(".spark")).to_have_attribute("aria-label", "6 hours, 91 to 97")
    expect(spo2.locator(".arrow")).to_have_attribute("aria-label", "down 5 within the hour")
    pulse = cell(page, "Spark Person", "HR")
    expect(pulse.locator(".spark polyline")).to_have_count(0)  # one value is no trend
    expect(pulse.locator(".arrow")).to_have_count(0)


def test_limits_are_drawn_for_the_time_they_were_in_force(ward: Ward, watched: Watched) -> None:
    patient = ward.admit("Limits Changed", "limits-1", limit(88))
    mmol = {"vital": "glucose_isf", "unit": "mmol/L", "low": 3.9, "severity": "S2"}
    ward.running.request("PUT", f"patients/{patient}/limits", json=[limit(92), mmol])
    ward.read("limits-1", "spo2", 96, "%")
    ward.publish("limits-1", readings((0, 100.0), vital="glucose_isf", unit="mg/dL"))
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator('[data-vital="spo2"] .limit')).to_have_text(re.compile(r"High\s+under 92"))
    glucose = page.locator('[data-vital="glucose_isf"] .limit')
    expect(glucose).to_have_text(re.compile(r"Medium\s+under 70"))  # in the unit of the chart
    history = ward.running.get(f"patients/{patient}/limits/history")["items"]
    drawn = page.evaluate(
        "async history => (await import('/static/js/chart.js')).lines(history, 'spo2')"
        ".map(line => [line.number, line.from, line.to === Infinity ? null : line.to])",
        history,
    )
    newer, older = (datetime.fromisoformat(version["set"]).timestamp() for version in history)
    assert drawn == [
        [92, pytest.approx(newer, abs=0.002), None],
        [88, pytest.approx(older, abs=0.002), pytest.approx(newer, abs=0.002)],
    ]


@pytest.mark.parametrize(("days", "span"), [(0, "24h"), (25, "30d")], ids=["raw", "by the hour"])
def test_a_value_beyond_the_sensor_stands_at_the_edge(ward: Ward, watched: Watched, days: int, span: str) -> None:
    name = f"Low Glucose {days}"
    patient = ward.admit(name, f"low-{days}")
    device = ward.running.request("POST", "devices", json={"adapter": "clarity", "id": f"cgm-{days}", "zone": "UTC"})
    ward.secrets[device["device"]] = device["secret"]
    start = (datetime.now(UTC) - timedelta(days=days + 1)).isoformat()
    ward.running.request("POST", f"devices/cgm-{days}/assign", json={"patient": patient, "from": start, "zone": "UTC"})
    ward.publish(f"cgm-{days}", export(days), adapter="clarity")
    page = sign_in(ward, watched)
    value = cell(page, name, "Glucose")
    expect(value.locator("b")).to_have_text("LO")
    expect(value).to_contain_text("below range")
    series = f"patients/{patient}/readings"

    since = (datetime.now(UTC) - timedelta(hours=3)).isoformat()

    def low() -> int:
        flags = ward.running.get(series, vital="glucose_isf", start=since, resolution="raw")["flags"]
        return sum("below_range" in words for words in flags)

    eventually(lambda: low() == LOW_ROWS, within_s=30, what="all low rows in the store")
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}?range={span}")
    chart = page.locator('[data-vital="glucose_isf"]')
    expect(chart.locator("canvas")).to_be_visible()
    area = chart.locator(".u-over").bounding_box()
    assert area is not None

    def legend() -> str:
        # The pointer reads what is drawn when it moves; the last hours may be drawn a moment after the first.
        for back in (2, 1):
            page.mouse.move(area["x"] + area["width"] - back, area["y"] + 30)
        return chart.locator(".u-legend").inner_text()

    eventually(lambda: "LO · below range" in legend(), within_s=15, what="the newest value is LO")
    page.wait_for_function(INK_AT_THE_EDGE)


INK_AT_THE_EDGE = """() => {
  const chart = document.querySelector('[data-vital="glucose_isf"]');
  const [canvas, over] = [chart.querySelector("canvas"), chart.querySelector(".u-over")];
  const [outer, inner] = [canvas, over].map(one => one.getBoundingClientRect());
  const scale = canvas.width / outer.width;
  const box = [inner.right - outer.left - 40, inner.bottom - outer.top - 6, 42, 4].map(one => Math.round(one * scale));
  const pixels = canvas.getContext("2d").getImageData(...box).data;
  let dark = 0;
  for (let at = 0; at < pixels.length; at += 4) {
    dark += pixels[at + 3] > 200 && pixels[at] + pixels[at + 1] + pixels[at + 2] < 150;
  }
  return dark >= 10;
}"""
"""Whether a mark in the colour of the curve stands on the lower edge of the chart, at its newest end."""


def export(days: int) -> str:
    """A glucose sensor's export of so many days, a value in ten minutes; Low for the last two hours."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    rows = [CLARITY]
    for ago in range(max(days * 144, 40), -1, -1):
        time = now - timedelta(minutes=10 * ago)
        rows.append(f"{len(rows)},{time.isoformat()},EGV,,,,x,{'Low' if ago < LOW_ROWS else 120 + ago % 9},,,,")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def crowd() -> Iterator[Ward]:
    """A ward with many more patients than fit on a screen."""
    root = Path(tempfile.mkdtemp(prefix="vg-"))
    ward = Ward(Running(root / "d"))
    for number in range(1, CROWD):
        ward.running.request("POST", "patients", json={"name": f"Patient {number}"})
    ward.admit(f"Patient {CROWD}", "crowd-1", limit(90, "S2"))
    ward.read("crowd-1", "spo2", 96, "%")
    yield ward
    ward.running.stop()
    shutil.rmtree(root)


def test_a_large_ward_is_one_request_and_only_what_is_near_the_screen(crowd: Ward, watched: Watched) -> None:
    page = sign_in(crowd, watched)
    table = page.locator("table.ward")
    expect(table).to_have_attribute("aria-rowcount", str(CROWD + 1))
    expect(cell(page, "Patient 1", "SpO₂").first).to_contain_text("no reading")
    assert page.locator("table.ward tbody tr:not(.space)").count() < 80
    asked = page.evaluate("performance.getEntriesByType('resource').filter(one => /latest/.test(one.name)).length")
    assert asked == 1
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = page.locator("table.ward tbody tr", has_text=f"Patient {CROWD}")
    expect(last.locator('td[data-label="SpO₂"] b')).to_have_text("96")
    height = page.locator("table.ward tbody").evaluate("one => one.getBoundingClientRect().height")
    assert height == pytest.approx(44 * CROWD, rel=0.03), "a row is 44 px, drawn or not"
    page.keyboard.press("/")
    page.keyboard.type(f"patient {CROWD}")
    expect(table.locator("tbody tr:not(.space)")).to_have_count(1)
    page.keyboard.press("Escape")


def test_chips_narrow_the_ward_and_are_in_the_address(crowd: Ward, watched: Watched) -> None:
    page = sign_in(crowd, watched)
    page.get_by_role("link", name="With alerts").click()
    expect(page.locator("main")).to_contain_text("No patient matches this filter now")
    crowd.read("crowd-1", "spo2", 85, "%")
    expect(page.locator("table.ward tbody tr:not(.space)")).to_have_count(1)
    page.reload()
    expect(page).to_have_url(re.compile(r"show=alerts"))
    expect(page.locator("table.ward tbody tr:not(.space)")).to_have_count(1)
    page.get_by_role("link", name="No current readings").click()
    expect(page.locator("table.ward")).to_have_attribute("aria-rowcount", str(CROWD))


def test_a_phone_shows_the_neediest_first_and_the_rest_on_demand(crowd: Ward, browser: Browser) -> None:
    watched = open_page(browser, viewport={"width": 390, "height": 844})
    page = sign_in(crowd, watched)
    rows = page.locator("table.ward tbody tr:not(.space)")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name=f"Show {CROWD - 50} more patients").click()
    expect(rows).to_have_count(CROWD)
    page.context.close()
    assert watched.complaints == []
