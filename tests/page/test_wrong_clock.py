"""A device whose clock is wrong, as a person meets it: its value, its alert, its row."""

import re

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Ward, Watched, limit, sign_in

pytestmark = pytest.mark.browser
HOUR_S = 3600.0


def test_a_value_of_a_fast_clock_is_marked_with_the_last_certain_one_beside_it(ward: Ward, watched: Watched) -> None:
    patient = ward.admit("Fast Clock", "fast-1", limit(90))
    ward.read("fast-1", "spo2", 97, "%", ago_s=20 * HOUR_S)
    page = sign_in(ward, watched)
    value = page.locator("table.ward tbody tr", has_text="Fast Clock").locator('td[data-label="SpO₂"] .value')
    expect(value).to_contain_text("stale 20 h")
    ward.read("fast-1", "spo2", 70, "%", ago_s=-400)
    told = "time uncertain · device clock wrong"
    alert = page.locator(".alerts li", has_text="Fast Clock").filter(has_text="Oxygen saturation 70 %")
    for _ in ("by the stream", "by the answer"):
        expect(value.locator("b")).to_have_text("70")
        expect(value.locator("small")).to_have_text(told)
        expect(value.locator(".before")).to_have_text("was 97, 20 h ago")
        expect(value).to_have_attribute("title", re.compile(told))
        expect(alert.locator(".flag")).to_have_text("device clock wrong")
        page.reload()
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator('[data-vital="spo2"] .value')).to_contain_text(told)
    expect(page.locator('[data-vital="spo2"] .before')).to_have_text("was 97, 20 h ago")
    expect(page.locator(".facts")).to_contain_text("device clock wrong: ahead by 6 min")
    ward.read("fast-1", "spo2", 96, "%")
    expect(page.locator('[data-vital="spo2"] .value b')).to_have_text("96")
    expect(page.locator('[data-vital="spo2"] .value')).not_to_contain_text("uncertain")


def test_a_current_value_is_not_hidden_by_one_of_a_wrong_clock(ward: Ward, watched: Watched) -> None:
    ward.admit("Fast Beside", "fast-2", limit(90))
    ward.read("fast-2", "spo2", 97, "%")
    page = sign_in(ward, watched)
    value = page.locator("table.ward tbody tr", has_text="Fast Beside").locator('td[data-label="SpO₂"] .value b')
    expect(value).to_have_text("97")
    ward.read("fast-2", "spo2", 95, "%", ago_s=-86_400)
    row = page.locator('tr[data-device="fast-2"]')
    page.goto(f"{ward.running.ready['http']}/#/devices")
    expect(row.locator(".flag")).to_have_text(re.compile("device clock wrong: ahead by 2[34] h"))
    page.goto(f"{ward.running.ready['http']}/#/")
    expect(value).to_have_text("97")
    ward.read("fast-2", "spo2", 96, "%")
    expect(value).to_have_text("96")
    page.goto(f"{ward.running.ready['http']}/#/devices")
    expect(row.locator(".flag")).to_have_count(0)
