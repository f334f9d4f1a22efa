"""The page over the real server: what it reads is what the server says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
CHECKS = """
checks:
  - balance: {reference: data/digits-validation.npz, target: label, expected_run_length: 5000}
"""


@pytest.fixture
def policy(contract):
    """A policy of the contract's models, with a check on the classes that are answered."""
    path = contract / "quickstart.yaml"
    path.write_text(f"{path.read_text()}\n{CHECKS}")
    return path


def test_a_drifted_stream_shows_on_the_page_and_is_acknowledged_there(policy, server, open_page):
    with np.load(policy.parent / "data" / "digits-validation.npz") as file:
        ones = file["pixels"][file["label"] == 1]
    with server(policy) as running:
        page = open_page(running.url)
        plan = running.get("/plan")
        expect(page.get_by_role("heading", level=1)).to_have_text(plan["policy"])
        expect(page.locator("#plan-now")).to_contain_text(plan["chosen"]["id"])
        card = page.get_by_role("article", name="balance")
        expect(card.locator(".pill")).to_have_text("✓ ok", timeout=60_000)
        for _ in range(60):  # a stream of one class: 300 rows and more where ten were alike
            running.predict(ones[:10].tolist())
        expect(card.locator(".pill")).to_have_text("✕ alarm", timeout=60_000)
        expect(card).to_contain_text("What moved most:")
        rate = page.locator("#now dd").first
        expect(rate).to_have_text(re.compile(r"\d"), timeout=60_000)
        card.get_by_label("Your name").fill("Ada")
        card.get_by_label("What it was").fill("a test")
        card.get_by_role("button", name="Acknowledge the alarm").click()
        expect(card.locator(".pill")).to_have_text("◐ acknowledged", timeout=60_000)
        (seen,) = running.get("/checks")["checks"]
        assert (seen["acknowledged"]["who"], seen["acknowledged"]["reason"]) == ("Ada", "a test")
