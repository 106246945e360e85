"""The page in a real browser: each flow from end to end, nothing asked of another machine.

``SPEAKERVLAD_SCREENSHOTS=docs/page`` writes the pictures of the documents on the way.
"""

import io
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.diarization.turns import load_turns
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.trials import Trials

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium; apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

# Other tests may have the processor.
playwright.expect.set_options(timeout=60_000)
MAX_PICTURE_BYTES = 150_000
PICTURES = os.environ.get("SPEAKERVLAD_SCREENSHOTS")
VOICES = {"Ada": 13, "Grace": 20, "Alan": 21, "Niels": 22}
STRANGER = "Niels"
HTML = "<img src=x onerror=document.title='run'>"
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


def spoken(name, take, seconds):
    voice = Voice.draw(np.random.default_rng(VOICES[name]))
    samples = synthesise(voice, np.random.default_rng((VOICES[name], take)), seconds)
    if name == STRANGER:
        samples = soxr.resample(samples, 16000, 9600)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Generated voices: two takes of everybody, and a meeting of three."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in VOICES:
        for take in range(2):
            soundfile.write(folder / f"{name} {take + 1}.wav", spoken(name, take, 7), 16000)
    parts = []
    for take, name in enumerate(["Ada", "Grace", "Ada", "Alan", "Grace", "Alan", "Ada"], 2):
        parts += [spoken(name, take, 5 + take % 3), np.zeros(9000, np.float32)]
    soundfile.write(folder / "meeting.wav", np.concatenate(parts), 16000)
    # The fake microphone takes it as it is, over and over.
    soundfile.write(folder / "microphone.wav", spoken("Ada", 20, 8), 48000 // 3, "PCM_16")
    return folder


@pytest.fixture(scope="module")
def browser(recordings):
    capture = f"--use-file-for-fake-audio-capture={recordings / 'microphone.wav'}"
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, capture])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """The page, opened; at its end nothing was wrong and nobody else was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    wrong, asked = [], set()
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    page.goto(server)
    playwright.expect(page.locator("#encoder")).to_have_text("encoder default")
    assert "token" not in page.url
    yield page
    # A refused file is an answer that the browser notes, too.
    assert [text for text in wrong if "status of 422" not in text] == []
    origin = urlsplit(server).netloc
    of_network = [urlsplit(url) for url in asked if not url.startswith(("blob:", "data:"))]
    assert {url.netloc for url in of_network} == {origin}
    # One document; everything else is an answer.
    assert {url.path for url in of_network if not url.path.startswith("/api/")} == {"/"}
    assert page.title() == "speakervlad"
    context.close()


def shoot(page, name):
    """Pictures of a page for the documents, and none of it is wider than the window."""
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if PICTURES:
                save_small(
                    page.screenshot(full_page=True), Path(PICTURES), f"{name}-{width}-{scheme}"
                )
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def save_small(png, folder, name):
    """A picture below 150 kB, with as many colours as fit."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        few = picture.quantize(colours, dither=Image.Dither.NONE)
        few.save(folder / f"{name}.png", optimize=True)
        if (folder / f"{name}.png").stat().st_size < MAX_PICTURE_BYTES:
            break


def give(page, slot, *paths):
    page.get_by_role("group", name=slot).locator("input[type=file]").set_input_files(
        [str(path) for path in paths]
    )


def record(page, slot, seconds):
    place = page.get_by_role("group", name=slot)
    place.get_by_role("button", name="Record").click()
    # A busy machine may miss the very second.
    passed = re.compile(rf"0:(0[{seconds}-9]|[1-5]\d)")
    playwright.expect(place.get_by_role("button", name="Stop")).to_contain_text(passed)
    place.get_by_role("button", name="Stop").click()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def test_verify(page, recordings):
    record(page, "First recording", 4)
    give(page, "Second recording", recordings / "Ada 1.wav")
    verdict = page.locator("#verification .verdict")
    playwright.expect(verdict).to_contain_text("The same speaker")
    playwright.expect(verdict).to_contain_text("% the same")
    playwright.expect(page.locator("#verification canvas")).to_have_count(4)
    playwright.expect(page.locator("#verification")).to_contain_text("s of speech")
    shoot(page, "verify")
    give(page, "Second recording", recordings / "Grace 1.wav")
    playwright.expect(page.locator("#verification h2").last).to_have_text("Grace 1.wav")
    strictest = page.locator("#verification option").count() - 1
    page.get_by_label("Decide by").select_option(index=strictest)
    playwright.expect(verdict).to_contain_text("Different speakers")
    playwright.expect(page.locator(".meaning").last).to_contain_text("one in")
    give(page, "Second recording", Path(__file__))
    playwright.expect(page.locator("#verify .error").last).to_contain_text("not an audio file")


def test_people(page, recordings):
    tab(page, "People")
    for name in ("Ada", HTML):
        page.get_by_label("Name", exact=True).fill(name)
        files = ["Ada 1.wav", "Ada 2.wav"] if name == "Ada" else ["Grace 1.wav"]
        give(page, "Recordings of this person", *(recordings / file for file in files))
        page.get_by_role("button", name="Enrol").click()
        playwright.expect(page.locator("#enrolled")).to_contain_text(name)
    assert page.locator("#enrolled img").count() == 0
    page.get_by_label("Name", exact=True).fill("Ada")
    record(page, "Recordings of this person", 5)
    page.get_by_role("button", name="Enrol").click()
    row = page.locator("#enrolled tbody tr", has_text="Ada")
    playwright.expect(row.locator("td").nth(1)).to_have_text("3 recordings")
    page.get_by_role("button", name=f"Rename {HTML}").click()
    page.get_by_label("New name").fill("Grace")
    page.get_by_label("New name").press("Enter")
    playwright.expect(page.locator("#enrolled")).to_contain_text("Grace")
    give(page, "Recordings to identify", recordings / "Grace 2.wav", recordings / "Niels 1.wav")
    answers = page.locator("#identified .answer")
    playwright.expect(answers.nth(0).locator(".verdict")).to_contain_text("Grace")
    playwright.expect(answers.nth(1).locator(".verdict")).to_contain_text("Niels 1.wav")
    shoot(page, "people")
    give(page, "Recordings to identify", Path(__file__))
    playwright.expect(answers.nth(2).locator(".error")).to_contain_text("not an audio file")
    playwright.expect(answers.nth(0).locator(".verdict")).to_contain_text("Grace")
    page.get_by_label("Name", exact=True).fill("Ada")
    give(page, "Recordings of this person", recordings / "Niels 1.wav")
    page.get_by_role("button", name="Enrol", exact=True).click()
    playwright.expect(page.locator("dialog .reasons")).to_contain_text("is unlike the other")
    page.get_by_role("button", name="Do not enrol").click()
    playwright.expect(page.locator("#people")).to_contain_text("Nothing was enrolled.")
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_role("button", name="Enrol all the same").click()
    playwright.expect(row.locator("td").nth(1)).to_have_text("4 recordings")
    page.get_by_role("button", name="Recordings of Ada").click()
    kept = page.locator("dialog .kept tbody tr")
    playwright.expect(kept).to_have_count(4)
    playwright.expect(kept.last.locator("td.error")).to_have_count(1)
    kept.last.get_by_role("button").click()
    page.get_by_role("button", name="Remove", exact=True).last.click()
    playwright.expect(kept).to_have_count(3)
    page.get_by_role("button", name="Close").click()
    playwright.expect(row.locator("td").nth(1)).to_have_text("3 recordings")
    page.get_by_role("button", name="Forget Grace").click()
    page.get_by_role("button", name="Forget", exact=True).last.click()
    playwright.expect(page.locator("#enrolled")).not_to_contain_text("Grace")


def test_conversation(page, recordings, tmp_path):
    tab(page, "Conversation")
    give(page, "A conversation", recordings / "meeting.wav")
    page.get_by_label("Number of speakers").fill("3")
    page.get_by_label("Name the people").uncheck()
    page.get_by_role("button", name="Find who speaks").click()
    names = page.locator("#lanes .names button")
    playwright.expect(names).to_have_count(3)
    names.last.click()
    page.get_by_label("Name", exact=True).last.fill("Alan")
    page.get_by_label("Enrol this voice").check()
    page.get_by_role("button", name="Apply").click()
    playwright.expect(names.last).to_contain_text("Alan")
    playwright.expect(page.locator("#lanes .status")).to_have_text("Alan is enrolled.")
    strip = page.get_by_role("slider", name="position in the recording")
    strip.press("Home")
    strip.press("ArrowDown")
    strip.press("ArrowRight")
    shoot(page, "conversation")
    turns = page.locator("#lanes tbody tr")
    before = turns.count()
    strip.press("s")
    playwright.expect(turns).to_have_count(before + 1)
    page.get_by_role("button", name="Undo").click()
    playwright.expect(turns).to_have_count(before)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save RTTM").click()
    saved.value.save_as(tmp_path / "meeting.rttm")
    (found,) = load_turns(tmp_path / "meeting.rttm").values()
    assert len(found) == before
    assert "Alan" in found.speakers
    for suffix in ("SRT", "JSON"):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save {suffix}").click()
        saved.value.save_as(tmp_path / f"meeting.{suffix.lower()}")
        assert len(*load_turns(tmp_path / f"meeting.{suffix.lower()}").values()) == before
    names.last.click()
    page.get_by_label("Or make it one with").select_option(index=1)
    page.get_by_role("button", name="Apply").click()
    playwright.expect(names).to_have_count(2)


def test_thousands_of_turns_come_in_pages(page, recordings):
    turns = [[i / 4, i / 4 + 0.2, f"speaker {i % 2}"] for i in range(120)]
    answer = {"recording": "long", "seconds": 30, "turns": turns, "waveform": [0.5] * 100}
    page.route("**/api/conversation", lambda route: route.fulfill(body=json.dumps(answer) + "\n"))
    tab(page, "Conversation")
    give(page, "A conversation", recordings / "meeting.wav")
    page.get_by_role("button", name="Find who speaks").click()
    rows = page.locator("#lanes tbody tr")
    playwright.expect(rows).to_have_count(50)
    page.get_by_role("button", name="Later turns").click()
    playwright.expect(rows.first).to_contain_text("0:12.5")
    rows.first.locator("select").select_option("speaker 1")
    playwright.expect(page.locator("#lanes")).to_contain_text("Turns 51 to 100 of 120")
    strip = page.get_by_role("slider", name="position in the recording")
    strip.press("End")
    strip.press("ArrowUp")
    playwright.expect(page.locator("#lanes tr.now")).to_contain_text("0:29.5")
    strip.press("Home")
    playwright.expect(page.locator("#lanes tr.now")).to_contain_text("0:00.0")


def test_two_at_once_stand_in_two_lanes(page, recordings):
    turns = [[0, 20, "Ada"], [10, 25, "Bo"]]
    answer = {"recording": "two", "seconds": 30, "turns": turns, "waveform": [0.5] * 100}
    page.route("**/api/conversation", lambda route: route.fulfill(body=json.dumps(answer) + "\n"))
    tab(page, "Conversation")
    give(page, "A conversation", recordings / "meeting.wav")
    page.get_by_role("button", name="Find who speaks").click()
    playwright.expect(page.locator("#lanes .lane")).to_have_count(2)
    strip = page.get_by_role("slider", name="position in the recording")
    strip.press("Home")
    playwright.expect(page.locator("#lanes tr.now")).to_have_count(1)
    strip.press("ArrowDown")
    playwright.expect(page.locator("#lanes tr.now")).to_have_count(2)
    playwright.expect(strip).to_have_attribute("aria-valuetext", re.compile("Ada, Bo$"))
    page.get_by_role("button", name="Split turn here").click()
    playwright.expect(page.locator("#lanes tbody tr")).to_have_count(2)


def test_a_conversation_is_cancelled(page, tmp_path, recordings):
    samples, rate = soundfile.read(recordings / "meeting.wav", dtype="float32")
    soundfile.write(tmp_path / "long.flac", np.tile(samples, 10), rate)
    tab(page, "Conversation")
    give(page, "A conversation", tmp_path / "long.flac")
    page.get_by_role("button", name="Find who speaks").click()
    playwright.expect(page.locator("#conversation .status")).to_contain_text(
        re.compile("Reading|Looking")
    )
    page.get_by_role("button", name="Cancel").click()
    playwright.expect(page.locator("#conversation > .error")).to_have_text("Cancelled.")


def test_report(page, tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{speaker:02d}/{n}.wav" for speaker in range(12) for n in range(5)]
    pairs = [(a, b) for a in ids for b in ids if a < b]
    is_target = np.array([a[:3] == b[:3] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    for name, gap in (("new", 0.5), ("old", 0.4)):
        scores = 0.15 + 0.13 * rng.normal(size=len(pairs)) + gap * is_target
        save_scores(tmp_path / f"{name}.txt", trials, scores)
    tab(page, "Report")
    give(page, "Score files", tmp_path / "new.txt")
    playwright.expect(page.locator("#judgement .facts")).to_contain_text("EER")
    give(page, "Score files", tmp_path / "old.txt")
    playwright.expect(page.locator("#judgement tbody tr")).to_have_count(2)
    playwright.expect(page.locator("#judgement polyline")).to_have_count(2)
    shoot(page, "report")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as a page").click()
    assert saved.value.suggested_filename == "report.html"


def test_keys_and_theme(page):
    page.get_by_role("tab", name="Verify").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.get_by_role("heading", name="Whose voice is it?")).to_be_visible()
    page.keyboard.press("End")
    playwright.expect(page.get_by_role("heading", name="How good")).to_be_visible()
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    theme.click()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.reload()
    playwright.expect(page.locator("#encoder")).to_have_text("encoder default")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_what_is_injected_does_not_run(browser, server):
    page = browser.new_context().new_page()
    page.goto(server)
    playwright.expect(page.locator("#encoder")).to_have_text("encoder default")
    page.evaluate(
        """() => {
          document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=document.title='run'>");
          for (const attributes of [{ textContent: "document.title = 'run'" },
            { src: "data:text/javascript,document.title='run'" }, { src: "/api/about" }]) {
            document.body.append(Object.assign(document.createElement("script"), attributes));
          }
          const run = document.createElement("a");
          run.href = "javascript:document.title='run'";
          document.body.append(run);
          run.click();
        }"""
    )
    page.wait_for_timeout(500)
    assert page.title() == "speakervlad"


def test_without_its_token_the_page_asks_for_it(browser, server):
    page = browser.new_context().new_page()
    page.goto(server.partition("#")[0])
    playwright.expect(page.get_by_role("heading", name="The token is missing")).to_be_visible()
    page.get_by_label("Token").fill(server)
    page.get_by_role("button", name="Open").click()
    playwright.expect(page.get_by_role("heading", name="Is it the same voice?")).to_be_visible()
