"""Live in a real browser, whose microphone plays a conversation of three."""

import io
import os
import re
import shutil
from pathlib import Path

import pytest
import soundfile

from speakervlad.diarization.turns import load_turns

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium; apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("wsproto", reason="needs the extra serve")
PICTURES = os.environ.get("SPEAKERVLAD_SCREENSHOTS")
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from speakervlad.page.trial import conversation

    path = tmp_path_factory.mktemp("microphone") / "talk.wav"
    samples, rate = soundfile.read(io.BytesIO(conversation()))
    # The fake microphone takes 16-bit PCM, and plays it over and over.
    soundfile.write(path, samples, rate, "PCM_16")
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={path}"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """The tab Live; at its end nothing was wrong, and the token was in no address."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(120_000)
    wrong, addresses = [], []
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    page.goto(server)
    page.click("#tab-live")
    yield page
    assert wrong == []
    assert len(addresses) == 1
    assert "token" not in addresses[0]
    context.close()


def shoot(page, name):
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if PICTURES:
            page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}-light.png"))
    page.set_viewport_size({"width": 1280, "height": 900})


def test_lanes_grow_a_voice_is_enrolled_and_turns_are_saved(page, tmp_path):
    start = page.get_by_role("button", name="Start listening")
    start.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".livelane >> nth=1")
    assert page.get_by_role("button", name="Stop").get_attribute("aria-pressed") == "true"
    # Whoever began with the keyboard can end with it.
    assert page.evaluate("document.activeElement.textContent") == "Stop"
    spoken = page.locator(".speaking")
    assert spoken.get_attribute("aria-live") == "polite"
    lane = page.get_by_role("listitem").first
    label = lane.get_by_role("img").get_attribute("aria-label")
    assert re.fullmatch(r"speaker \d+ spoke (once|\d+ times), last from [\d:]+ to [\d:]+", label)
    shoot(page, "live")
    page.get_by_role("button", name="Enrol speaker 1").click()
    page.get_by_label("Name", exact=True).fill("Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector('.livelane[data-name="Ada"]')
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=Save RTTM")
    assert "has ended" in page.locator("#live .status").inner_text()
    shoot(page, "live-ended")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save RTTM").click()
    path = tmp_path / "live.rttm"
    saved.value.save_as(path)
    (turns,) = load_turns(path).values()
    assert "Ada" in turns.speakers


def test_the_example_plays_without_a_microphone(page):
    page.get_by_role("button", name="Try it with the example").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".livelane")
    assert page.evaluate("document.activeElement.textContent") == "Stop"
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=Save RTTM")
