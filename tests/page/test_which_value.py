"""Which value of a vital sign the page shows, what it says beside it, and where everything else is."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.conftest import Ward, Watched, limit, open_page, readings, sign_in

pytestmark = pytest.mark.browser
Picture = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Keeps a picture when ``VITALGATE_PICTURES`` names a directory."""
    folder = os.environ.get("VITALGATE_PICTURES")

    def keep(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png")

    return keep


def test_the_value_of_an_open_alert_is_never_hidden(ward: Ward, watched: Watched, picture: Picture) -> None:
    patient = ward.admit("Fast Alert", "fast-3", limit(90))
    ward.read("fast-3", "spo2", 97, "%")
    page = sign_in(ward, watched)
    value = page.locator("table.ward tbody tr", has_text="Fast Alert").locator('td[data-label="SpO₂"] .value')
    expect(value.locator("b")).to_have_text("97")
    ward.read("fast-3", "spo2", 70, "%", ago_s=-86_400)
    for _ in ("by the stream", "by the answer"):
        expect(value.locator("b")).to_have_text("70")
        expect(value.locator("small")).to_have_text("time uncertain · device clock wrong")
        expect(value.locator(".before")).to_contain_text("was 97")
        picture(page, "open-alert")
        page.reload()
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator('[data-vital="spo2"] .value b')).to_have_text("70")
    expect(page.locator('[data-vital="spo2"] .before')).to_contain_text("was 97")


def test_of_two_values_of_one_time_the_one_of_the_open_alert_is_shown(ward: Ward, watched: Watched) -> None:
    ward.admit("Two Values", "twice-1", limit(90))
    page = sign_in(ward, watched)
    expect(page.locator(".link")).to_have_text("Live")
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for value in (70, 97):
        ward.publish("twice-1", f'{{"vital":"spo2","value":{value},"unit":"%","time":"{at}"}}')
    value = page.locator("table.ward tbody tr", has_text="Two Values").locator('td[data-label="SpO₂"] .value')
    expect(value.locator("b")).to_have_text("70")
    ward.running.settled("twice-1")
    page.reload()
    expect(value.locator("b")).to_have_text("70")


def test_a_reading_of_the_repeated_hour_says_which_pass(ward: Ward, watched: Watched, picture: Picture) -> None:
    ward.admit("Autumn Hour", "autumn-1")
    rows = (f'{{"vital":"spo2","value":{value},"unit":"%","time":"2025-10-26T{wall}:00"}}'
            for wall, value in (("01:50", 94), ("02:30", 95), ("02:10", 96)))  # fmt: skip
    ward.publish("autumn-1", f"[{','.join(rows)}]")
    page = sign_in(ward, watched)
    value = page.locator("table.ward tbody tr", has_text="Autumn Hour").locator('td[data-label="SpO₂"] .value')
    expect(value.locator("b")).to_have_text("96")
    expect(value.locator("small")).to_contain_text("2nd pass of the hour")
    picture(page, "repeated-hour")


def test_a_source_that_cannot_page_says_so(ward: Ward, watched: Watched, picture: Picture) -> None:
    patient = ward.admit("Late Cloud", "beside-1")
    ward.running.request("POST", "devices", json={"adapter": "dexcom", "id": "cloud-1"})
    ward.running.request("POST", "devices/cloud-1/assign", json={"patient": patient})
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/devices")
    row = page.locator('tr[data-device="cloud-1"]')
    expect(row.locator(".flag")).to_have_text("cannot page")
    expect(row).to_contain_text("its values are usually 60 min old when they arrive")
    picture(page, "cannot-page-devices")
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator(".facts")).to_contain_text("cannot page")
    picture(page, "cannot-page-patient")


def test_the_system_view_says_which_list_shows_everything(ward: Ward, watched: Watched, picture: Picture) -> None:
    ward.admit("Broken", "broken-1")
    ward.publish("broken-1", "no reading")
    ward.read("broken-1", "spo2", 97, "%")
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/system")
    quarantine = page.locator('tr[data-place="quarantine"]')
    expect(quarantine).to_contain_text("messages that cannot be decoded")
    expect(quarantine.locator(".number")).to_have_text("1")
    expect(quarantine.get_by_role("link")).to_have_attribute("href", "#/quarantine")
    expect(page.locator('tr[data-place="history"]')).to_contain_text("in the patient's history")
    picture(page, "places")


def test_a_day_is_named_as_where_the_patient_lives(ward: Ward, browser: Browser, picture: Picture) -> None:
    """A reader in California looks at days of Kiritimati, 22 hours ahead."""
    running = ward.running
    patient = running.request("POST", "patients", json={"name": "Far East", "zone": "Pacific/Kiritimati"})["patient"]
    ward.secrets["east-1"] = running.request("POST", "devices", json={"adapter": "json", "id": "east-1"})["secret"]
    running.request("POST", "devices/east-1/assign", json={"patient": patient})
    for first in (0, 500, 1000, 1500):  # a payload holds 64 KiB
        ward.publish("east-1", readings(*(((first + hour) * 3600.0, 97.0) for hour in range(500))))
    watched = open_page(browser, timezone_id="America/Los_Angeles")
    page = sign_in(ward, watched)
    page.goto(f"{running.ready['http']}/#/patient/{patient}?range=1y")
    plot = page.locator('[data-vital="spo2"] .u-over')
    days: set[str] = set()

    def asked() -> set[str]:
        path = f"patients/{patient}/readings?vital=spo2&resolution=1d"
        return {date.fromisoformat(day).strftime("%-d %b %Y") for day in running.request("GET", path)["day"]}

    expect(plot).to_be_visible()
    box = plot.bounding_box()
    assert box is not None
    for share in (0.9, 0.93, 0.96):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        days.add(page.locator('[data-vital="spo2"] .u-legend .u-series').first.locator(".u-value").inner_text())
    picture(page, "days")
    assert len(days) == 3
    assert days <= asked()
    page.context.close()
    assert watched.complaints == []


def test_an_impossible_value_is_in_the_worklist_and_a_fault_of_its_device(
    ward: Ward, watched: Watched, picture: Picture
) -> None:
    ward.admit("Odd Numbers", "odd-1")
    ward.read("odd-1", "bp_sys", 320, "mm[Hg]")
    ward.read("odd-1", "temp", 104, "Cel")
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/devices")
    faults = page.locator('tr[data-device="odd-1"] td[data-label="Faults"]')
    expect(faults).to_contain_text("implausible")
    expect(faults).to_contain_text("unit suspect")
    for code, why, sample in (
        ("bp_sys in mm[Hg]", "impossible in this unit", "320"),
        ("temp in Cel, perhaps [degF]", "perhaps another unit", "104"),
    ):
        row = page.locator(f'tr[data-code="{code}"]')
        expect(row).to_contain_text(why)
        expect(row.locator('td[data-label="Newest values"]')).to_have_text(sample)
    picture(page, "doubtful-values")
