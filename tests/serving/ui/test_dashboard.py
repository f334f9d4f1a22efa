"""The page in a real Chromium, over a world that has seen everything."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from ui_worlds import FAR, NEAR, check, event, flagged, history, refused

SCREENS = [(1200, False), (1200, True), (360, False), (360, True)]


def opened(page):
    """Return the page once all of it is shown, every drawer open."""
    expect(page.locator("#rows-list canvas[role=img]")).to_have_count(4)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    expect(page.get_by_role("table")).to_have_count(11)
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
    expect(rows).to_have_count(5)
    expect(rows.first).to_contain_text("colour: black")
    expect(rows.nth(1)).to_contain_text("answered 3, p 0.003")
    expect(rows.nth(1)).to_contain_text(
        "Of its score 2.5: pixels[2:4, 2:4] 1.25, pixels[4:6, 2:4] -0.5"
    )
    drawn = (
        rows.nth(1)
        .locator("canvas[role=img]")
        .evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]")
    )
    pixels = flagged()["rows"][1]["inputs"][0]["picture"]["pixels"]
    assert drawn[0::4] == drawn[1::4] == drawn[2::4] == pixels
    assert set(drawn[3::4]) == {255}


def test_an_event_appears_at_once_and_the_plan_is_looked_at_again(world, open_page):
    page = opened(open_page(world.url))
    expect(page.locator("#events-list li")).to_have_count(2)
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


def test_a_check_learns_anew_only_once_a_person_has_read_what_that_means(world, open_page):
    page = opened(open_page(world.url))
    card = page.get_by_role("article", name="drift", exact=True)
    card.get_by_label("Your name").fill("Ada")
    card.get_by_label("What it was").fill("summer has come")
    dialog = page.get_by_role("dialog", name="Let drift learn normal times anew?")
    card.get_by_role("button", name="Rebase…").click()
    expect(dialog).to_contain_text("takes the next rows of live traffic for normal")
    expect(dialog).to_contain_text("raises no alarm")
    expect(dialog.get_by_role("button", name="Keep it as it is")).to_be_focused()
    assert Axe().run(page).violations_count == 0
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    card.get_by_role("button", name="Rebase…").click()
    dialog.get_by_role("button", name="Keep it as it is").click()
    expect(dialog).to_be_hidden()
    assert world.posted == []
    card.get_by_role("button", name="Rebase…").click()
    dialog.get_by_role("button", name="Let drift learn anew").click()
    expect(card.get_by_label("Your name")).to_have_value("")
    said = {"who": "Ada", "reason": "summer has come"}
    assert world.posted == [("checks/drift/rebase", said)]


def test_what_works_by_a_schema_offers_no_rebase(world, open_page):
    page = opened(open_page(world.url))
    integrity = page.get_by_role("article", name="integrity")
    expect(integrity).to_contain_text("score 0.01")
    expect(integrity.get_by_role("button", name="Rebase…")).to_have_count(0)
    expect(page.get_by_role("button", name="Rebase…")).to_have_count(4)


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
    expect(page.locator("#rows-list canvas[role=img]")).to_have_count(4)
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


def test_how_the_scheduler_does_is_shown(world, open_page):
    world.routes["plan"]["pinned"] = NEAR
    page = opened(open_page(world.url))
    tiles = page.locator("#scheduler > div")
    expect(tiles.nth(0)).to_have_text("Waiting3of at most 64")
    expect(tiles.nth(2)).to_contain_text("Missed deadlines14")
    expect(tiles.nth(3)).to_contain_text("Latency over plan1.34 times")
    expect(tiles.nth(5)).to_contain_text(f"Pinned{NEAR}by an operator")
    expect(page.locator("#plan-now .note").first).to_contain_text(f"Pinned to {NEAR}")
    expect(page.locator("#variants-key")).to_have_text(f"{NEAR}{FAR}")
    table = page.get_by_role("table", name="Answers by variant").get_by_role("row")
    expect(table.nth(0)).to_have_text(f"Until{NEAR}, per s{FAR}, per sWaitingMissed deadlines")
    last = world.routes["stats"]["points"][-1]
    expect(table.nth(1)).to_contain_text(f"{last['variants'][NEAR] / 5:.3g}1010")


def test_a_refused_row_is_shown_with_the_rule_that_it_broke(world, open_page):
    page = opened(open_page(world.url))
    row = page.locator("#rows-list > li").last
    expect(row).to_contain_text("refusedpixels[5] must be between 0 and 16, got 99.0")
    expect(row.get_by_role("img", name="pixels, refused")).to_be_visible()
    expect(row.locator("code")).to_have_count(0)  # nobody was told its id
    assert refused()["rows"][0]["id"] not in page.content()


def test_where_a_score_comes_from_is_drawn_over_the_image(world, open_page):
    page = opened(open_page(world.url))
    heat = page.locator("#rows-list > li").nth(1).locator("canvas.heat")
    side = heat.evaluate("canvas => canvas.width")

    def pixel(row, column):
        at = [int((column + 0.5) * side / 8), int((row + 0.5) * side / 8)]
        return heat.evaluate(
            "(canvas, at) => [...canvas.getContext('2d').getImageData(...at, 1, 1).data]", at
        )

    raises, lowers, clear = pixel(2, 2), pixel(4, 3), pixel(0, 0)
    assert raises[0] > raises[2]  # orange
    assert lowers[2] > lowers[0]  # blue
    assert raises[3] > lowers[3] > 0 == clear[3]
    page.get_by_role("checkbox", name="Draw where a score comes from").uncheck()
    expect(heat).to_be_hidden()
    expect(page.locator("#rows-list > li").nth(1).get_by_role("img")).to_be_visible()


def test_where_a_score_comes_from_is_bars_where_there_is_no_image(world, open_page):
    page = opened(open_page(world.url))
    parts = page.locator("#rows-list > li").first.locator(".parts li")
    expect(parts).to_have_text(["age 3", "height -1.5", "weight 0.75"])
    widths = parts.locator(".bar").evaluate_all("all => all.map((each) => each.style.width)")
    assert widths == ["100%", "50%", "25%"]


HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_hostile_names_of_everything_are_text(world, open_page):
    plan, checks = world.routes["plan"], world.routes["checks"]["checks"]
    world.routes["checks/anomaly/rows"]["rows"][0]["label"] = HOSTILE
    world.routes["checks/integrity/rows"]["rows"][0]["why"] = HOSTILE
    plan["policy"] = plan["objective"] = plan["target"]["run"] = plan["pinned"] = HOSTILE
    plan["chosen"]["id"] = plan["lanes"][0]["options"][0]["variant"] = HOSTILE
    plan["decisions"][0]["why"] = plan["notes"][0] = HOSTILE
    for point in world.routes["stats"]["points"]:
        point["variants"] = {HOSTILE: 5}
    checks[0]["evidence"]["features"][0]["name"] = checks[0]["evidence"]["detector"] = HOSTILE
    checks[1] = check(HOSTILE, "ok", 1.0, why=HOSTILE)
    page = opened(open_page(world.url))
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator("#variants-key")).to_have_text(HOSTILE)
    card = page.get_by_role("article", name="img src")
    card.get_by_label("Your name").fill(HOSTILE)
    card.get_by_label("What it was").fill("a test")
    card.get_by_role("button", name="Rebase…").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    world.tell(event(9, HOSTILE, HOSTILE))
    expect(page.locator("#events-list li").first).to_contain_text(HOSTILE)
    assert page.locator("img, script:not([src])").count() == 0
    expect(page).to_have_title(f"{HOSTILE}: scanflow-serve")


def _thirty(world):
    states = ("ok", "warn", "alarm", "off", "acknowledged")
    names = [f"drift-{index}" for index in range(30)]
    world.routes["checks"]["checks"] = [
        check(name, states[index % 5], 10.0 * index) for index, name in enumerate(names)
    ]
    for name in names:
        world.routes[f"checks/{name}/history"] = history(300.0)
    return "drift-29"


def _acknowledged(world):
    seen = {"who": "Ada", "reason": "a new camera", "at": "2026-01-01T00:00:00.000Z"}
    world.routes["checks"]["checks"][0] |= {"state": "acknowledged", "acknowledged": seen}
    return "acknowledged by Ada: a new camera"


def _long(world):
    name = "a-name-that-somebody-found-telling-" * 8
    world.routes["plan"]["policy"] = world.routes["plan"]["pinned"] = name
    world.routes["plan"]["lanes"][0]["current"] = name
    world.routes["checks"]["checks"][0]["evidence"]["features"][0]["name"] = name.replace("-", "_")
    for point in world.routes["stats"]["points"]:
        point["variants"] = {name: 5}
    return name


@pytest.mark.parametrize("change", [_thirty, _acknowledged, _long])
def test_every_state_is_readable_on_a_phone_in_the_dark(world, open_page, change):
    said = change(world)
    page = open_page(world.url, width=360, dark=True)
    expect(page.locator("main")).to_contain_text(said)
    expect(page.locator("#link")).to_have_text("live")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_the_keyboard_reaches_every_control_and_one_sees_where_it_is(world, open_page):
    page = open_page(world.url)
    expect(page.locator("#rows-list canvas[role=img]")).to_have_count(4)
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, summary, [tabindex='0']")]
            .filter((each) => each.checkVisibility()).length"""
    )
    seen = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        at, outline = page.evaluate(
            """() => {
                const node = document.activeElement;
                window.order ??= new Map();
                window.order.has(node) || window.order.set(node, window.order.size);
                return [window.order.get(node), getComputedStyle(node).outlineStyle];
            }"""
        )
        assert outline == "solid"
        seen.add(at)
    assert len(seen) == wanted


def test_a_swarm_of_events_is_not_read_out_one_by_one(world, open_page):
    page = opened(open_page(world.url))
    page.evaluate(
        """() => {
            window.said = [];
            new MutationObserver(() => {
                window.said.push(document.getElementById("events-said").textContent);
            }).observe(document.getElementById("events-said"), { childList: true });
        }"""
    )
    for number in range(9, 60):
        world.tell(event(number, f"event {number}"))
    expect(page.locator("#events-list li").first).to_contain_text("event 59")
    assert len(page.evaluate("window.said")) <= 2
    # Live regions: the connection, trouble, alarms, events; forms speak of their own refusals.
    regions = page.locator("[role=status], [role=alert], [role=log], [aria-live]")
    outside = [each.get_attribute("id") for each in regions.all() if each.get_attribute("id")]
    assert outside == ["link", "trouble", "checks-said", "events-said"]


def test_events_come_though_the_server_was_not_there_at_first(world, open_page):
    world.down = True
    page = open_page(world.url)
    expect(page.locator("#link")).to_have_text("not connected")
    world.down = False
    expect(page.locator("#events-list li")).to_have_count(2)
    expect(page.locator("#link")).to_have_text("live")
    for _ in range(100):
        if world.followers:
            break
        page.wait_for_timeout(50)
    world.tell(event(9, "after all"))
    expect(page.locator("#events-list")).to_contain_text("after all")
    assert len(world.followers) == 1


def test_what_is_known_is_not_asked_for_again(world, open_page):
    page = opened(open_page(world.url))
    points = world.routes["stats"]["points"]
    known = len(points)
    points.append(points[-1] | {"at": points[-1]["at"] + 5, "p95_ms": 77.0})
    expect(page.locator("#now")).to_contain_text("77 ms")
    later = [path for path in world.asked if path.startswith("stats")]
    assert later[0] == "stats"
    assert all(path.startswith("stats?after=") for path in later[1:])
    drawn = page.locator("#latency-chart path.c1").get_attribute("d")
    assert drawn.count("L") == known
