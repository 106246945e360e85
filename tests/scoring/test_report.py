import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.judge import judge_systems
from speakervlad.scoring.report import save_report
from speakervlad.scoring.trials import Trials
from speakervlad.tables.manifest import Manifest

pytest.importorskip("matplotlib")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two systems on one list of 10 speakers, and the manifest of its recordings."""
    rng = np.random.default_rng(3)
    names = [f"s{speaker}/{n}.wav" for speaker in range(10) for n in range(4)]
    pairs = [(a, b) for a in names for b in names if a < b]
    is_target = np.array([a[:2] == b[:2] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    good = rng.normal(size=len(pairs)) + 3 * is_target
    systems = {"good": good, "bad <&> worse": good + rng.normal(size=len(pairs))}
    manifest = Manifest.of(
        tmp_path_factory.mktemp("corpus"),
        utterance_ids=names,
        paths=names,
        speakers=[name[:2] for name in names],
        sessions=[name[:2] for name in names],
        num_samples=16_000 * (1 + np.arange(40) % 9),
        extra={"gender": ["fm"[row // 4 % 2] for row in range(40)]},
    )
    return trials, systems, manifest


@pytest.fixture(scope="module")
def page(scored, tmp_path_factory):
    trials, systems, manifest = scored
    results = judge_systems(
        trials, systems, manifest=manifest, by=["gender", "duration"], num_resamples=30
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    save_report(path, trials, results, title="A & B", notes=["a <b> note"])
    return path, results


class Outline(HTMLParser):
    """Collects what a page refers to and whether its tags match."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.headings, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        self.text.append(data)


@pytest.fixture
def outline(page):
    parser = Outline()
    parser.feed(page[0].read_text(encoding="utf-8"))
    return parser


def test_page_is_well_formed_and_complete(outline):
    assert not outline.open
    assert {"Systems", "Confidence", "By gender", "By duration"} <= set(outline.headings)


def test_page_needs_nothing_from_elsewhere(page, outline):
    text = page[0].read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    assert all(link.startswith("#") for link in outline.links)


def test_page_shows_the_figures(page, outline):
    text = " ".join(outline.text)
    best = min(page[1], key=lambda system: system.report.eer)
    assert best.name == "good"
    assert f"{100 * best.report.eer:.2f}" in text
    low, high = best.report.intervals["eer"]
    assert f"{100 * low:.2f} – {100 * high:.2f}" in text
    assert "bad <&> worse" in text
    assert "a <b> note" in text
    assert f"{best.report.threshold:.4f}" in text
    assert not best.against_best
    other = next(system for system in page[1] if system is not best)
    assert f"{100 * other.against_best['eer'].difference:+.2f}" in text


def test_page_marks_the_best_system_and_shows_intervals_of_parts(page):
    text = page[0].read_text(encoding="utf-8")
    assert text.count('<tr class="best"><th>good') == 3
    part = page[1][0].report.breakdown["gender"]["f"]
    assert part is not None
    low, high = part.intervals["eer"]
    assert low <= part.eer <= high
    assert f"<small>{100 * low:.2f} – {100 * high:.2f}</small>" in text


def test_breakdown_without_manifest_is_refused(scored):
    trials, systems, _ = scored
    with pytest.raises(InputError, match="Give --manifest"):
        judge_systems(trials, systems, by=["gender"])


def test_page_opens_in_a_browser(page, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,3000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", page[0].as_uri()]
    shown = subprocess.run(
        [*command, f"--screenshot={tmp_path / 'page.png'}"], capture_output=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr.decode()
    picture = (tmp_path / "page.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000
    command[-1:] = ["--dump-dom", page[0].as_uri()]
    dom = subprocess.run(command, capture_output=True, timeout=120).stdout.decode()
    assert dom.count("<svg") == 6
    assert "Detection error trade-off" in dom
