"""Draws the pictures of the web page and of a replay in docs/: starts 'vrag app', plays an episode, takes pictures.

What it leaves out: nothing of the page is faked; the built-in documents and the scripted oracle are used. Needs the
extras ``app`` and ``test``, and Chromium on the path (or named by VRAG_CHROMIUM).

    python docs/screenshots.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

DOCS = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WAIT = 120_000


def main() -> None:
    """Draw app.png, app-narrow.png and compare.png."""
    chromium = os.environ.get("VRAG_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is needed: install it, or name it in VRAG_CHROMIUM")
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        runs = Path(directory)
        for policy in ("oracle", "random"):
            _vrag("eval", "--policy", policy, "--limit", "30", "--out", str(runs / policy))
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        command = [sys.executable, "-m", "vrag_agent.cli", "app", "--port", "0", "--runs", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                address = re.search(r"http://\S+", server.stdout.readline())
                assert address is not None, "the page did not start"
                _app(browser, address[0])
            finally:
                server.terminate()
        question = "summer-leaf-2021-p4-bars-island"
        _compare(browser, runs, question)
        browser.close()


def _vrag(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "vrag_agent.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def _app(browser: Browser, address: str) -> None:
    for name, width, height, scheme in (("app", 1440, 1000, "light"), ("app-narrow", 400, 900, "dark")):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
        )
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.goto(address)
        page.get_by_label("Questions with a known answer").focus()
        page.keyboard.type("Summer Leaf 2021 report for the Island")
        page.get_by_role("option").first.click()
        expect(page.locator("#question textarea")).not_to_have_value("", timeout=WAIT)
        page.locator("#ask").click()
        page.wait_for_function("document.querySelector('#told').innerText.includes('judged')", timeout=WAIT)
        frame = page.frame_locator("#episode iframe")
        frame.locator("li.crop").evaluate("turn => turn.scrollIntoView()")
        frame.locator("li.crop").press("g")
        page.wait_for_timeout(500)
        page.screenshot(path=DOCS / f"{name}.png")
        context.close()


def _compare(browser: Browser, runs: Path, question: str) -> None:
    target = runs / "both.html"
    _vrag("replay", str(runs / "oracle"), str(runs / "random"), "--question", question, "--out", str(target))
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(target.as_uri())
    page.screenshot(path=DOCS / "compare.png")
    page.close()


if __name__ == "__main__":
    main()
