"""The page as a person meets it: Chromium against a running pipeline."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.page.conftest import LONG, Ward, Watched, limit, open_page, sign_in

pytestmark = pytest.mark.browser
PAIRS = [
    ("ink", "page"), ("soft", "page"), ("soft", "hover"), ("accent", "hover"), ("on-accent", "accent"),
    ("S1", "S1-back"), ("S2", "S2-back"), ("S3", "S3-back"), ("S1", "hover"), ("S2", "hover"), ("S3", "hover"),
]  # fmt: skip
"""Text and what it stands on."""


def row(page: Page, name: str) -> Locator:
    return page.locator("table.ward tbody tr", has_text=name)


def cell(page: Page, name: str, label: str) -> Locator:
    return row(page, name).locator(f'td[data-label="{label}"]')


def test_a_link_signs_in_once_and_leaves_no_token_behind(ward: Ward, watched: Watched, browser: Browser) -> None:
    page, base, link = watched.page, ward.running.ready["http"], ward.running.ready["sign_in"]
    page.goto(link)
    assert page.url == f"{base}/"
    expect(page.get_by_role("heading", name="Ward")).to_be_visible()
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["secure"]) == (True, "Strict", "/", False)
    assert cookie["expires"] == -1
    assert page.evaluate("document.cookie") == ""
    for path in ward.running.data.rglob("*.db*"):
        assert cookie["value"].encode() not in path.read_bytes(), f"the cookie is in {path.name}"
        assert link.rsplit("=", 1)[1].encode() not in path.read_bytes(), f"the link's token is in {path.name}"
    stranger = open_page(browser)
    refused = stranger.page.goto(link)
    assert refused is not None
    assert refused.status == 403
    expect(stranger.page.get_by_role("heading")).to_contain_text("is no longer valid")
    assert stranger.page.context.cookies() == []
    stranger.page.context.close()


def test_a_ward_without_patients_says_what_to_do(ward: Ward, watched: Watched) -> None:
    page = sign_in(ward, watched)
    if not ward.running.get("patients")["items"]:
        expect(page.locator(".empty")).to_contain_text("vitalgate patient add")
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.locator("main")).to_contain_text("Quarantine")
    page.goto(f"{ward.running.ready['http']}/#/patient/p_nobody")
    expect(page.locator(".empty")).to_contain_text("No such patient")


def test_a_reading_changes_its_value_in_place(ward: Ward, watched: Watched) -> None:
    ward.admit("Ada Live", "live-1")
    ward.read("live-1", "spo2", 97, "%")
    page = sign_in(ward, watched)
    value = cell(page, "Ada Live", "SpO₂")
    expect(value.locator("b")).to_have_text("97")
    page.evaluate("document.querySelector('table.ward').dataset.seen = 'before'")
    ward.read("live-1", "spo2", 94, "%")
    expect(value.locator("b")).to_have_text("94")
    assert page.evaluate("document.querySelector('table.ward').dataset.seen") == "before", "the table was not replaced"
    expect(value).to_contain_text(re.compile(r"\d+ s"))
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.locator("#evaluated")).to_have_text(re.compile(r"evaluated to \d\d:\d\d:\d\d"))
    streams = page.evaluate(
        "performance.getEntriesByType('resource').filter(one => one.name.includes('/stream')).length"
    )
    assert streams <= 1, "one connection for everything"


def test_the_strip_says_when_the_whole_way_was_checked_and_when_it_fails(ward: Ward, watched: Watched) -> None:
    page = sign_in(ward, watched)
    checked, evaluated = page.locator("#checked"), page.locator("#evaluated")
    expect(checked).to_have_text(re.compile(r"checked end to end \d+ (s|min) ago"))
    expect(checked).not_to_have_class(re.compile("late"))

    def silent(route: Route) -> None:
        answer = route.fetch()
        answered = answer.json()
        route.fulfill(response=answer, json=answered | {"canary": answered["canary"] | {"late": True}})

    page.route("**/api/v1/system", silent)
    expect(checked).to_have_text(re.compile(r"end-to-end check failed, last success \d+ (s|min) ago"), timeout=15_000)
    expect(checked).to_have_class(re.compile("late"))
    ink = "one => getComputedStyle(one).color"
    assert checked.evaluate(ink) != evaluated.evaluate(ink), "it stands out"
    page.unroute_all(behavior="wait")


def test_a_patient_added_meanwhile_appears(ward: Ward, watched: Watched) -> None:
    page = sign_in(ward, watched)
    page.get_by_role("heading", name="Ward").wait_for()
    ward.admit("Newcomer", "new-1")
    ward.read("new-1", "heart_rate", 71, "/min")
    expect(cell(page, "Newcomer", "HR").locator("b")).to_have_text("71")


def test_an_old_value_is_stale_by_word_and_look(ward: Ward, watched: Watched) -> None:
    ward.admit("Old Value", "old-1")
    ward.read("old-1", "temp", 36.7, "Cel", ago_s=20 * 3600)
    ward.admit("With A Pulse", "old-2")  # a column is there when anybody has its vital
    ward.read("old-2", "heart_rate", 70, "/min")
    page = sign_in(ward, watched)
    value = cell(page, "Old Value", "Temp")
    expect(value).to_contain_text("stale 20 h")
    expect(value.locator(".value")).to_have_class(re.compile("stale"))
    assert "line-through" in value.locator("b").evaluate("one => getComputedStyle(one).textDecorationLine")
    expect(cell(page, "Old Value", "HR")).to_contain_text("no reading")


def test_an_alert_appears_is_taken_by_a_key_and_stays_taken(ward: Ward, watched: Watched) -> None:
    ward.admit("Needs Someone", "alert-1", limit(90))
    ward.read("alert-1", "spo2", 96, "%")
    page = sign_in(ward, watched)
    expect(cell(page, "Needs Someone", "SpO₂").locator("b")).to_have_text("96")
    ward.read("alert-1", "spo2", 84, "%")
    alert = page.locator(".alerts li", has_text="Needs Someone")
    expect(alert).to_contain_text("High")
    expect(alert).to_contain_text("Oxygen saturation 84 %, limit 90 % (low)")
    expect(alert).to_contain_text("not acknowledged")
    expect(page.locator("table.ward tbody tr").first).to_contain_text("Needs Someone")
    expect(page).to_have_title(re.compile(r"^\(1\)"))
    page.keyboard.press("a")
    expect(alert).to_contain_text("acknowledged by clinician:")
    page.reload()
    expect(alert).to_contain_text("acknowledged by clinician:")
    assert page.get_by_role("button", name="Acknowledge").count() == 0


def test_the_mark_moves_by_key_and_does_not_jump_to_a_newer_alert(ward: Ward, watched: Watched) -> None:
    ward.admit("First Medium", "mark-1", limit(92, "S2"))
    ward.admit("Then High", "mark-2", limit(90, "S1"))
    ward.read("mark-1", "spo2", 91, "%")
    page = sign_in(ward, watched)
    page.keyboard.press("g")
    page.keyboard.press("a")
    medium, high = (page.locator(".alerts li", has_text=name) for name in ("First Medium", "Then High"))
    expect(medium).to_have_class(re.compile("marked"))
    ward.read("mark-2", "spo2", 80, "%")
    expect(page.locator(".alerts li").first).to_contain_text("Then High")
    expect(medium).to_have_class(re.compile("marked"))
    page.keyboard.press("k")
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(high).to_have_class(re.compile("marked"))
    page.keyboard.press("a")
    expect(high).to_contain_text("acknowledged by")
    expect(medium).to_contain_text("not acknowledged")


def test_a_viewer_sees_alerts_and_takes_none(ward: Ward, watched: Watched) -> None:
    ward.admit("Only Looked At", "view-1", limit(90))
    ward.read("view-1", "spo2", 85, "%")
    page = sign_in(ward, watched, "viewer")
    expect(page.locator(".alerts li", has_text="Only Looked At")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_the_charts_of_a_patient_follow_and_speak_at_the_cursor(ward: Ward, watched: Watched) -> None:
    patient = ward.admit("Chart Person", "chart-1", limit(88, "S2"))
    for ago_s in (5400, 5300, 600, 500):
        ward.read("chart-1", "spo2", 95, "%", ago_s=ago_s)
    page = sign_in(ward, watched)
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}?range=6h")
    chart = page.locator('[data-vital="spo2"]')
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart.locator(".limit")).to_have_text(re.compile(r"Medium\s+under 88"))
    ward.read("chart-1", "spo2", 69, "%")
    expect(chart.locator(".value b")).to_have_text("69")
    area = chart.locator(".u-over").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] - 3, area["y"] + 30)
    expect(chart.locator(".u-legend")).to_contain_text("69 % · suspect")
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile("range=1h"))
    expect(page.get_by_role("link", name="1 h", exact=True)).to_have_attribute("aria-current", "true")


def test_quarantine_shows_bytes_and_tries_again(ward: Ward, watched: Watched) -> None:
    ward.admit("Strange Device", "odd-1")
    page = sign_in(ward, watched)
    page.keyboard.press("g")
    page.keyboard.press("q")
    ward.publish("odd-1", "{not json <script>")
    item = page.locator(".quarantine li", has_text="odd-1")
    expect(item).to_contain_text("malformed")
    item.get_by_role("button", name="Show bytes").click()
    expect(item.locator(".hex")).to_contain_text("7b 6e 6f 74 20 6a 73 6f 6e")
    expect(item.locator(".hex")).to_contain_text("{not json <scri")
    item.get_by_role("button", name="Try again").click()
    expect(page.locator("main [role=status]")).to_contain_text("1 still not decodable")


@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}])
def test_devices_say_how_they_are_and_follow(ward: Ward, browser: Browser, size: dict[str, int]) -> None:
    name, device = f"Strap {size['width']}", f"strap-{size['width']}"
    ward.admit(name, device)
    ward.running.request("POST", "devices", json={"adapter": "json", "id": f"spare-{size['width']}"})
    watched = open_page(browser, viewport=size)
    page = sign_in(ward, watched)
    page.keyboard.press("g")
    page.keyboard.press("d")
    strap = page.locator(f'[data-device="{device}"]')
    expect(strap).to_contain_text("never heard")
    expect(strap.get_by_role("link", name=name)).to_be_visible()
    expect(page.locator(f'[data-device="spare-{size["width"]}"]')).to_contain_text("not assigned")
    ward.publish(device, "\x04P", "ble_heart_rate/2a37")  # no contact
    expect(strap.locator(".flag")).to_have_text("sensor status: no contact")
    expect(strap).to_contain_text("offline")
    ward.publish(device, "\x06P", "ble_heart_rate/2a37")
    expect(strap.locator(".flag")).to_have_count(0)
    expect(strap).not_to_contain_text("no reading")
    page.context.close()
    assert watched.complaints == []


def test_nothing_overflows_on_a_phone_or_at_twice_the_size(ward: Ward, browser: Browser) -> None:
    ward.admit(LONG, "long-1", limit(90))
    for vital, value, unit in (("heart_rate", 188, "/min"), ("spo2", 81, "%"), ("glucose", 342, "mg/dL"),
                               ("weight", 132.4, "kg"), ("temp", 39.4, "Cel")):  # fmt: skip
        ward.read("long-1", vital, value, unit)
    for width in (390, 640):  # 640: a screen of 1280 at 200 %
        watched = open_page(browser, viewport={"width": width, "height": 800})
        page = sign_in(ward, watched)
        expect(row(page, LONG)).to_be_visible()
        for view in ("", "alerts", "devices", "quarantine", "system"):
            page.goto(f"{ward.running.ready['http']}/#/{view}")
            page.locator("main h1").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{view} at {width}"
        page.context.close()
        assert watched.complaints == []


def scripts(page: Page) -> dict[str, list[int]]:
    """Name of a script -> its bytes as written, and as sent."""
    found: dict[str, list[int]] = page.evaluate(
        "Object.fromEntries(performance.getEntriesByType('resource').filter(one => one.name.endsWith('.js'))"
        ".map(one => [one.name.split('/').at(-1), [one.decodedBodySize, one.encodedBodySize]]))"
    )
    return found


def test_the_script_is_small(ward: Ward, watched: Watched) -> None:
    patient = ward.admit("Small Script", "small-1")
    ward.read("small-1", "spo2", 97, "%")
    page = sign_in(ward, watched)
    expect(cell(page, "Small Script", "SpO₂").locator("b")).to_have_text("97")
    first = scripts(page)
    assert len(first) > 10
    assert 0 < sum(written for written, _ in first.values()) < 100_000
    assert "uPlot.iife.min.js" not in first, "charts are not on this page"
    page.goto(f"{ward.running.ready['http']}/#/patient/{patient}")
    expect(page.locator('[data-vital="spo2"] canvas')).to_be_visible()
    assert 0 < sum(sent for _, sent in scripts(page).values()) < 70_000
    assert page.evaluate("document.querySelectorAll('style, script:not([src])').length") == 0


def test_an_integrator_sees_quarantine_and_no_patient(ward: Ward, watched: Watched) -> None:
    ward.admit("Not For Integrators", "int-1", limit(90))
    ward.read("int-1", "spo2", 85, "%")
    page = sign_in(ward, watched, "integrator")
    expect(page.get_by_role("status")).to_have_text("No live updates for this role")
    page.goto(f"{ward.running.ready['http']}/#/quarantine")
    expect(page.get_by_role("heading", name="Quarantine", exact=True)).to_be_visible()
    page.goto(f"{ward.running.ready['http']}/#/alerts")
    expect(page.locator("main")).not_to_contain_text("Not For Integrators")


def test_signing_out_leaves_nothing_on_the_screen(ward: Ward, watched: Watched) -> None:
    page = sign_in(ward, watched)
    page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to vitalgate")).to_be_visible()
    assert page.context.cookies() == []


def test_a_session_that_ends_clears_the_screen_and_says_so(ward: Ward, browser: Browser) -> None:
    ward.admit("Secret Name", "end-1")
    token = ward.running.request("POST", "tokens", json={"role": "viewer", "ttl_s": 4})["token"]
    watched = open_page(browser)  # the browser itself reports the refusal as an error
    page = watched.page
    page.goto(ward.running.ready["http"])
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_contain_text("Your session has ended", timeout=30_000)
    expect(page.locator("body")).not_to_contain_text("Secret Name")
    page.context.close()


def test_the_keys_are_a_dialog_that_gives_the_focus_back(ward: Ward, watched: Watched) -> None:
    page = sign_in(ward, watched)
    page.get_by_role("button", name="Show the keys").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("Acknowledge the marked alert")
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Show the keys")).to_be_focused()
    page.keyboard.press("?")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_a_wrong_token_is_refused_in_words(ward: Ward, browser: Browser) -> None:
    watched = open_page(browser)  # the browser itself reports the refusal as an error
    page = watched.page
    page.goto(ward.running.ready["http"])
    page.get_by_label("Token").fill("vg_nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")
    expect(page.get_by_label("Token")).to_have_value("vg_nonsense")
    page.context.close()


def test_a_killed_core_is_said_and_the_page_goes_on_by_itself(ward: Ward, browser: Browser) -> None:
    ward.admit("Goes On", "kill-1")
    ward.read("kill-1", "spo2", 97, "%")
    watched = open_page(browser)  # the browser itself reports the broken connection as an error
    page = sign_in(ward, watched)
    value = cell(page, "Goes On", "SpO₂").locator("b")
    expect(value).to_have_text("97")
    child = ward.running.child("core")
    assert child is not None
    child.suspend()
    expect(page.get_by_role("status")).to_have_text("No updates", timeout=15_000)
    expect(page.locator(".past")).to_contain_text(re.compile(r"You see the data of \d\d:\d\d:\d\d"))
    expect(value).to_have_text("97")
    child.kill()
    ward.running.until_ready()
    expect(page.get_by_role("status")).to_have_text("Live", timeout=20_000)
    expect(page.locator(".past")).to_have_count(0)
    ward.read("kill-1", "spo2", 93, "%")
    expect(value).to_have_text("93")
    page.context.close()


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 800), ("dark", 1280, 800), ("light", 390, 844)])
def test_text_has_contrast_and_colours_belong_to_priorities(
    ward: Ward, browser: Browser, theme: str, width: int, height: int
) -> None:
    watched = open_page(browser, viewport={"width": width, "height": height}, color_scheme=theme)
    page = sign_in(ward, watched)
    page.locator("main h1").wait_for()
    for ink, back in PAIRS:
        assert contrast(variable(page, ink), variable(page, back)) >= 4.5, f"{ink} on {back}, {theme}"
    page.context.close()
    assert watched.complaints == []


def variable(page: Page, name: str) -> str:
    return str(page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two ``#rrggbb`` (or ``#rgb``) colours."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
