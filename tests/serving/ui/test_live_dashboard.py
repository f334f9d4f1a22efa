"""The page over the real server: what it reads is what the server says."""

from __future__ import annotations

import re
import urllib.error

import numpy as np
import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
CHECKS = """
checks:
  - balance: {reference: data/digits-validation.npz, target: label, expected_run_length: 5000}
  - anomaly: {reference: data/digits-train.npz, method: pca}
  - integrity: {on_fail: refuse, schema: infer, range: {pixels: [0, 16]}}
"""
LONG_MS = 60_000  # a machine that tests share


@pytest.fixture
def policy(contract):
    """A policy of the contract's models, with checks on what comes and what is answered."""
    path = contract / "quickstart.yaml"
    path.write_text(f"{path.read_text()}\n{CHECKS}")
    return path


@pytest.fixture
def digits(policy):
    """Pixels and labels of rows that no model was trained on."""
    with np.load(policy.parent / "data" / "digits-validation.npz") as file:
        return file["pixels"], file["label"]


def fill(card):
    card.get_by_label("Your name").fill("Ada")
    card.get_by_label("What it was").fill("a test")


def test_a_drifted_stream_shows_on_the_page_and_people_act_there(policy, digits, server, open_page):
    pixels, labels = digits
    ones = pixels[labels == 1]
    with server(policy) as running:
        page = open_page(running.url)
        plan = running.get("/plan")
        expect(page.get_by_role("heading", level=1)).to_have_text(plan["policy"])
        expect(page.locator("#plan-now")).to_contain_text(plan["chosen"]["id"])
        card = page.get_by_role("article", name="balance")
        expect(card.locator(".pill")).to_have_text("✓ ok", timeout=LONG_MS)
        for _ in range(60):  # a stream of one class: 300 rows and more where ten were alike
            running.predict(ones[:10].tolist())
        expect(card.locator(".pill")).to_have_text("✕ alarm", timeout=LONG_MS)
        expect(card).to_contain_text("What moved most:")
        rate = page.locator("#now dd").first
        expect(rate).to_have_text(re.compile(r"\d"), timeout=LONG_MS)
        variant = plan["chosen"]["id"].partition(":")[2]
        expect(page.locator("#variants-key")).to_contain_text(variant, timeout=LONG_MS)
        fill(card)
        card.get_by_role("button", name="Acknowledge the alarm").click()
        expect(card.locator(".pill")).to_have_text("◐ acknowledged", timeout=LONG_MS)
        seen = running.get("/checks/balance")
        assert (seen["acknowledged"]["who"], seen["acknowledged"]["reason"]) == ("Ada", "a test")
        card.get_by_text("Rebase", exact=True).click()
        fill(card)
        card.get_by_role("button", name="Rebase…").click()
        page.get_by_role("button", name="Let balance learn anew").click()
        expect(card).to_contain_text("collecting", timeout=LONG_MS)
        assert running.get("/checks/balance")["phase"] == "collecting"


def test_odd_rows_are_drawn_with_where_their_score_comes_from_and_refused_ones_too(
    policy, digits, server, open_page
):
    image = "image: {mode: L, width: 8, height: 8, layout: flat, resize: bilinear}"
    policy.write_text(f"{policy.read_text()}\nserve: {{{image}}}\n")
    pixels, _ = digits
    odd = np.random.default_rng(0).permutation(pixels[0])  # as bright as a digit, and none
    broken = pixels[1].copy()
    broken[5] = 99
    with server(policy) as running:
        page = open_page(running.url)
        card = page.get_by_role("article", name="anomaly")
        expect(card.locator(".pill")).to_have_text("✓ ok", timeout=LONG_MS)
        with pytest.raises(urllib.error.HTTPError, match="422"):
            running.predict([broken.tolist()])
        running.predict([odd.tolist()])
        rows = page.locator("#rows-list > li")
        refused = rows.filter(has_text="refused")
        expect(refused).to_contain_text(
            "pixels[5] must be between 0 and 16, got 99", timeout=LONG_MS
        )
        expect(refused.locator("canvas[role=img]")).to_have_attribute("width", "8")
        drawn = rows.filter(has_text="Of its score")
        expect(drawn).to_have_count(1, timeout=LONG_MS)
        expect(drawn.locator("canvas.heat")).to_be_visible()
        (row,) = running.get("/checks/anomaly/rows")["rows"]
        (heat,) = row["explanation"]["heat"]
        assert len(heat["changes"]) == 16
        assert row["explanation"]["score"] > row["explanation"]["typical"]
        assert max(heat["changes"]) > 0
