"""Why an alert is there, and what watches a patient, as the page tells it."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.page.conftest import Ward, Watched, limit, open_page, readings, sign_in

pytestmark = pytest.mark.browser
KNOWN = {"age_band": "adult", "pregnancy": "no", "oxygen": "no", "spo2_scale": 1, "known_af": "no", "reason": "asked"}


@pytest.fixture(scope="module")
def explained(ward: Ward) -> str:
    """A patient in a programme, with an alert of their own limit; the token."""
    patient = ward.admit("Explained Person", "why-1", limit(90))
    adopted = {"protocols": ["copd"], "title": "COPD at home", "reason": "first ward"}
    ward.running.request("PUT", "programmes/copd", json=adopted)
    ward.running.request("PUT", f"patients/{patient}/context", json=KNOWN)
    ward.running.request("PUT", f"patients/{patient}/programmes", json={"programmes": ["copd"], "reason": "home"})
    ward.publish("why-1", readings(*((step * 60, 96.0 - (step % 3)) for step in range(14, 0, -1)), (0, 84.0)))
    return patient


def keep(page: Any, name: str) -> None:
    if "VITALGATE_PICTURES" in os.environ:
        page.screenshot(path=str(Path(os.environ["VITALGATE_PICTURES"]) / f"{name}.png"))


def test_an_alert_says_why_with_the_minutes_around_it(ward: Ward, explained: str, watched: Watched) -> None:
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/alerts")
    name = "Oxygen saturation 84 %, limit 90 % (low)"
    row = page.locator(".alerts > li", has_text="Explained Person")
    text = row.get_by_role("button", name=name)
    expect(text).to_have_attribute("aria-expanded", "false")
    text.click()
    why = row.locator(".why")
    expect(why).to_contain_text("Oxygen saturation under 90 %")
    expect(why).to_contain_text("own limits, version 1")
    expect(why).to_contain_text("oxygen saturation is 92 % or more, and a person has acknowledged it")
    expect(why.locator("li", has_text="84 %").first).to_contain_text("no quality problem")
    expect(why.locator("figure canvas")).to_be_visible()
    expect(why.locator("figure figcaption")).to_contain_text("15 minutes around the time of the alert")
    expect(why.locator(".past li").first).to_contain_text("raised, asks nurse: Oxygen saturation 84 %")
    keep(page, "explanation-light")
    page.keyboard.press("o")
    expect(why).to_have_count(0)
    # The programme's alert about the same reading stands in the row with a button of its own, before or after this one:
    # the key closes whichever is open.
    expect(row.locator(".text")).to_have_count(2)
    for member in range(2):
        row.locator(".text").nth(member).click()
        expect(why).to_be_visible()
        page.keyboard.press("o")
        expect(why).to_have_count(0)
    page.keyboard.press("o")
    expect(row.locator(".text").first).to_have_attribute("aria-expanded", "true")
    row.get_by_role("button", name="Acknowledge").first.click()
    expect(why.locator(".past li").last).to_contain_text("acknowledged by clinician:")


def test_a_patient_shows_what_watches_and_what_does_not(ward: Ward, explained: str, watched: Watched) -> None:
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/patient/{explained}")
    facts = page.locator(".facts")
    expect(facts).to_contain_text("COPD at home v1")
    expect(facts).to_contain_text("adult · not pregnant · on air · SpO₂ scale 1 · no AF")
    box = page.locator("details.watch")
    expect(box.locator("summary")).to_have_text(
        re.compile(r"What watches this patient \d+ rules, \d+ rules do not apply")
    )
    box.locator("summary").click()
    expect(box).to_contain_text("Oxygen saturation 91 % or less")
    expect(box).to_contain_text("Oxygen saturation under 90 %")
    gated = box.locator("li.gated", has_text="saturation above 92 %")
    expect(gated).to_contain_text("the patient gets no oxygen")
    keep(page, "watching-light")


@pytest.mark.parametrize(("name", "width", "theme"), [("phone", 390, "light"), ("dark", 1280, "dark")])
def test_nothing_runs_over(ward: Ward, explained: str, browser: Browser, name: str, width: int, theme: str) -> None:
    opened = open_page(browser, viewport={"width": width, "height": 900}, color_scheme=theme)
    page = sign_in(ward, opened)
    page.goto(f"{ward.running.ready['http']}/#/alerts?show=all")
    page.locator(".alerts > li", has_text="Explained Person").get_by_role(
        "button", name="Oxygen saturation 84 %, limit 90 % (low)"
    ).click()
    expect(page.locator(".why figure canvas")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    keep(page, f"explanation-{name}")
    page.goto(f"{ward.running.ready['http']}/#/patient/{explained}")
    page.locator("details.watch summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    keep(page, f"watching-{name}")
    page.context.close()
    assert opened.complaints == []


def test_a_patient_whom_nothing_watches(ward: Ward, watched: Watched) -> None:
    patient = ward.admit("Nobody Watches", "why-2")
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator(".facts")).to_contain_text("No programme")
    expect(page.locator(".facts")).to_contain_text("clinical context not recorded")
    page.locator("details.watch summary").click()
    expect(page.locator("details.watch")).to_contain_text("No rules: the patient has no programme and no limits.")
