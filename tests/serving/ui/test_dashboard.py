"""The page in a real Chromium, over a world that has seen everything."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from ui_worlds import FAR, NEAR, check, event, flagged

SCREENS = [(1200, False), (1200, True), (360, False), (360, True)]


def opened(page):
    """Return the page once all of it is shown, every drawer open."""
    expect(page.locator("#rows-list canvas")).to_have_count(3)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    expect(page.get_by_role("table")).to_have_count(9)
    return page


def heights(chart):
    """Return where a chart has its threshold, and the latest score."""
    threshold = chart.locator("line.threshold").get_attribute("y1")
    return float(threshold), float(chart.locator("circle").get_attribute("cy"))


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_axe_finds_no_fault(world, open_page, width, dark):
    page = opened(open_page(world.url, width=width, dark=dark))
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert len(results.response["passes"]) > 20


def test_a_phone_of_360_pixels_scrolls_one_way_only(world, open_page):
    page = opened(open_page(world.url, width=360))
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for name in ("Traffic and latency", "What answers, and why", "Checks on live traffic"):
        assert page.get_by_role("heading", name=name).bounding_box()["width"] > 300


def test_it_shows_what_answers_and_why(world, open_page):
    page = opened(open_page(world.url))
    expect(page).to_have_title("digits: scanflow-serve")
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(page.locator("#plan-now")).to_contain_text(f"The plan chose classify:{NEAR}.")
    expect(page.locator("#plan-now")).to_contain_text("Rules that act: adapt[0].")
    options = page.get_by_role("table", name="Options of digits").get_by_role("row")
    expect(options.nth(1)).to_contain_text("answers0.9811.34 times")
    expect(options.nth(2)).to_contain_text("paused: failed0.9531.02 times")
    decision = page.locator("#decisions li")
    expect(decision).to_contain_text(f"rule{FAR} → {NEAR}: a rule prefers accuracy")
    expect(decision).to_contain_text("rate 118, ratio 1.02")
    rejected = page.get_by_role("table", name="Candidates of the plan").get_by_role("row").nth(2)
    expect(rejected).to_contain_text(f"0.9530.9 ms12.5 MBaccuracy 0.953 is below that of {NEAR}")


def test_traffic_is_drawn_and_told_as_a_table(world, open_page):
    page = opened(open_page(world.url))
    last = world.routes["stats"]["points"][-1]
    rate = page.locator("#now dd").first
    expect(rate).to_have_text(f"{last['requests'] / 5:.3g}")
    p50, p95, p99 = (f"{last[key]:.3g} ms" for key in ("p50_ms", "p95_ms", "p99_ms"))
    named = f"Latency over time; now p50 {p50}, p95 {p95}"
    expect(page.get_by_role("img", name=named)).to_be_visible()
    newest = page.get_by_role("table", name="Traffic and latency").get_by_role("row").nth(1)
    expect(newest).to_contain_text(f"{p50}{p95}{p99}")
    # The point without a p99 interrupts its line: a second stroke begins behind it.
    drawn = page.locator("#latency-chart path.c3").get_attribute("d")
    assert drawn.count("M") == 2
    assert drawn.count("L") == len(world.routes["stats"]["points"]) - 3


def test_an_alarm_is_shown_with_its_threshold_and_its_evidence(world, open_page):
    page = opened(open_page(world.url))
    card = page.get_by_role("article", name="drift", exact=True)
    expect(card.locator(".pill")).to_have_text("✕ alarm")
    expect(card).to_contain_text("What moved most: autoencoder since about")
    chart = card.get_by_role("img", name="Score of drift over time; now 40.2K against")
    threshold, score = heights(chart)
    assert score < threshold  # higher on the page: the score has passed it
    other = page.get_by_role("article", name="balance").get_by_role("img")
    threshold, score = heights(other)
    assert score > threshold
    expect(card.locator("li code")).to_have_count(20)
    expect(page.get_by_role("status").filter(has_text="In alarm: drift")).to_have_count(1)


def test_histograms_are_of_the_features_that_moved(world, open_page):
    page = opened(open_page(world.url))
    evidence = world.routes["checks"]["checks"][0]["evidence"]
    for feature in evidence["features"]:
        name = f"Histograms of {feature['name']} before and after; it moved"
        chart = page.get_by_role("img", name=name)
        for style in ("before", "after"):
            drawn = chart.locator(f"rect.{style}").evaluate_all(
                "bars => bars.map((bar) => bar.height.baseVal.value)"
            )
            shares = [height / max(drawn) for height in drawn]
            expected = [share / max(feature[style]) for share in feature[style]]
            assert shares == pytest.approx(expected, abs=1e-3)
        table = page.get_by_role("table", name=f"Shares of {feature['name']}")
        expect(table.get_by_role("row").nth(1)).to_contain_text("0 to 130 %5 %")


def test_flagged_images_are_drawn_as_they_are_and_other_rows_as_values(world, open_page):
    page = opened(open_page(world.url))
    rows = page.locator("#rows-list > li")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("colour: black")
    expect(rows.nth(1)).to_contain_text("answered 3, p 0.003")
    expect(rows.nth(1)).to_contain_text(
        "Of its score 2.5: pixels[2:4,2:4] 1.25, pixels[4:6,2:4] 0.5"
    )
    drawn = (
        rows.nth(1)
        .locator("canvas")
        .evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]")
    )
    pixels = flagged()["rows"][1]["inputs"][0]["picture"]["pixels"]
    assert drawn[0::4] == drawn[1::4] == drawn[2::4] == pixels
    assert set(drawn[3::4]) == {255}


def test_an_event_appears_at_once_and_the_plan_is_looked_at_again(world, open_page):
    page = opened(open_page(world.url))
    expect(page.locator("#events-list li")).to_have_count(2)
    expect(page.locator("#events-log")).not_to_have_attribute("aria-busy", "true")
    world.routes["plan"]["lanes"][0]["current"] = FAR
    world.tell(event(9, "rate asks for the quicker one", "decision"))
    world.tell(event(9, "rate asks for the quicker one", "decision"))
    expect(page.locator("#events-list li").first).to_contain_text("rate asks for the quicker one")
    expect(page.locator("#now")).to_contain_text("digits-mlp")
    expect(page.locator("#events-list li")).to_have_count(3)


def test_what_clients_say_is_never_markup(world, open_page):
    page = opened(open_page(world.url))
    world.tell(event(9, "<img src=x onerror='document.title = 1'><b>bold</b>"))
    expect(page.locator("#events-list li").first).to_contain_text("<b>bold</b>")
    assert page.locator("#events-list b, #events-list img").count() == 0


def test_an_alarm_is_acknowledged_by_a_person_with_a_reason(world, open_page):
    page = opened(open_page(world.url))
    card = page.get_by_role("article", name="drift", exact=True)
    button = card.get_by_role("button", name="Acknowledge the alarm")
    button.click()
    assert world.posted == []  # both fields are asked for
    card.get_by_label("Your name").fill("Ada")
    card.get_by_label("What it was").fill("a new camera")
    world.routes["checks"]["checks"][0] = check("drift", "acknowledged", 0.0)
    button.click()
    expect(card.locator(".pill")).to_have_text("◐ acknowledged")
    expect(button).to_be_hidden()
    assert world.posted == [("checks/drift/ack", {"who": "Ada", "reason": "a new camera"})]


def test_a_check_that_a_reload_removed_leaves_the_page(world, open_page):
    page = opened(open_page(world.url))
    world.routes["checks"] = {"state": "off", "checks": []}
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.locator("#checks-list")).to_have_text("The policy has no checks.")


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(world, open_page):
    world.key = "secret"
    page = open_page(world.url)
    dialog = page.get_by_role("dialog", name="A key is needed")
    expect(dialog).to_be_visible()
    expect(page.get_by_role("textbox", name="Key")).to_be_focused()
    assert Axe().run(page).violations_count == 0
    page.get_by_role("textbox", name="Key").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("A key must be sent, got none that is known.")
    page.get_by_role("textbox", name="Key").fill("secret")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    opened(page)
    world.tell(event(9, "the stream has the key too"))
    expect(page.locator("#events-list")).to_contain_text("the stream has the key too")
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    page.reload()
    opened(page)


def test_a_server_that_is_gone_is_told_and_so_is_its_return(world, open_page):
    page = opened(open_page(world.url))
    world.down = True
    expect(page.locator("#link")).to_have_text("not connected")
    expect(page.get_by_role("alert")).to_contain_text("The server is starting.")
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    world.down = False
    expect(page.locator("#link")).to_have_text("live")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_keyboard_reaches_content_and_drawers(world, open_page):
    page = open_page(world.url)
    expect(page.locator("#rows-list canvas")).to_have_count(3)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#traffic-table summary")).to_be_focused()
    page.keyboard.press("Enter")
    table = page.get_by_role("region", name="Traffic and latency, newest first")
    expect(table).to_be_visible()
    page.keyboard.press("Tab")
    expect(table).to_be_focused()
    world.tell(event(9, "what is read is left alone"))
    expect(page.locator("#events-list")).to_contain_text("what is read is left alone")
    expect(table).to_be_focused()


def test_a_tab_that_nobody_sees_asks_for_nothing(world, open_page):
    page = opened(open_page(world.url))
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    expect(page.locator("#link")).to_have_text("paused")
    world.routes["plan"]["policy"] = "another"
    page.evaluate(
        """() => {
            delete document.hidden;
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("another")
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#events-list li")).to_have_count(2)


def test_nothing_moves_by_itself_and_nothing_comes_from_elsewhere(world, open_page):
    page = opened(open_page(world.url, reduced_motion="no-preference"))
    assert page.evaluate("document.getAnimations().length") == 0
    loaded = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded
    assert all(name.startswith(world.url) for name in loaded)
    assert page.locator("script:not([src]), style, [style*='javascript']").count() == 0


def test_a_policy_without_checks_and_traffic_is_no_fault(world, open_page):
    world.routes = {
        "stats": {"interval_s": 5.0, "points": []},
        "plan": world.routes["plan"] | {"lanes": [], "decisions": [], "rules": {"acting": []}},
        "events": {"events": [], "latest": 0},
    }
    page = open_page(world.url)
    expect(page.locator("#checks-list")).to_have_text("The policy has no checks.")
    expect(page.locator("#rows-list")).to_have_text("None so far.")
    expect(page.locator("#traffic-chart")).to_contain_text("Nothing yet")
    expect(page.locator("#decisions")).to_contain_text("None since the start")
    expect(page.locator("#events-list")).to_contain_text("Nothing has happened")
    assert Axe().run(page).violations_count == 0
