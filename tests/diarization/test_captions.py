"""Subtitles say who speaks in front of what is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakervlad.diarization.turns import Turn, Turns, load_turns, save_turns
from speakervlad.errors import InputError

SRT = """1
00:00:00,000 --> 00:00:05,000
{}

2
00:00:05,000 --> 00:00:10,000
{}

3
00:00:10,000 --> 00:00:15,000
{}
"""


def read(tmp_path, text, name="a.srt"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return load_turns(tmp_path / name)["a"].turns


@pytest.mark.parametrize(
    "texts",
    [
        ("[Ada]: Hello there", "[Ada]: How are you", "[Bob]: Fine"),
        ("[Ada] Hello there", "[Ada] [laughs]", "[Bob]"),
        ("(Ada) Hello", "(Ada)", "(Bob): Fine"),
        ("Ada: Hello there", "Ada: at 10:30", "Bob: Fine: so am I"),
        ("- Ada: Hello\nthere", "- Ada: it is", "- Bob:\n- Fine"),
        (">> Ada: Hello there", ">> Ada: He said: no", ">> Bob: Fine"),
        ("<i>[Ada]:</i> Hello", "{\\an8}[Ada]: Hello", '<font color="red">[Bob]: Fine</font>'),
        ("Ada：你好", "Ada： 你好", "Bob：好"),
        ("【Ada】你好", "【Ada】", "[Bob] 好"),
        ("Ada", "Ada", "Bob"),
    ],
)
def test_the_speaker_stands_before_the_text(texts, tmp_path):
    assert read(tmp_path, SRT.format(*texts)) == (
        (0, 5, "Ada"), (5, 10, "Ada"), (10, 15, "Bob")
    )  # fmt: skip


def test_webvtt_is_read(tmp_path):
    text = (
        "WEBVTT - a title\n\nNOTE --\n[no] cue\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:00.000 --> 00:05.000 align:start position:0%\n<v Ada Lovelace>Hello\n\n"
        "00:00:05.000 --> 00:00:10.500\n<v.loud Ada Lovelace>Again</v>\n\n"
        "01:00:00.000 --> 01:00:01.000\n<v Bob &amp; Co>Fine</v>\n"
    )
    assert read(tmp_path, text, "a.vtt") == (
        (0, 5, "Ada Lovelace"), (5, 10.5, "Ada Lovelace"), (3600, 3601, "Bob & Co")
    )  # fmt: skip
    brackets = "WEBVTT\n\n00:00.000 --> 00:05.000\n[Ada]: Hello\n"
    assert read(tmp_path, brackets, "a.vtt") == ((0, 5, "Ada"),)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("[Ada]: Hello", "How are you", "[Bob]: Fine"), "line 6: 'How are you' does not say"),
        (("Ada: Hello", "Ada: Yes", "[Music]"), r"line 10: '\[Music\]' does not say who"),
        (("[Ada]: Hello", "[Ada]: Yes\n[Bob]: No", "[Bob]: Fine"), "line 6: .* two speakers"),
        (("Ada: Hello", "- Ada: Yes\n- Bob: No", "Bob: Fine"), "line 6: .* two speakers"),
        (("Hello there.", "How are you?", "Fine."), "line 2: 'Hello there.' is what was said"),
        (("Hello\nthere", "Ada", "Ada"), "line 2: 'Hello there' is what was said"),
        (("Ada", "", "Ada"), "line 6: '' does not say who"),
    ],
)
def test_a_text_without_a_speaker_is_named(texts, words, tmp_path):
    with pytest.raises(InputError, match=r"a\.srt, " + words):
        read(tmp_path, SRT.format(*texts))


@pytest.mark.parametrize("texts", [("Good morning.", "And to you."), ("I have seen it.",)])
def test_two_sentences_are_no_names(texts, tmp_path):
    cues = (f"00:00:0{n},000 --> 00:00:0{n + 1},000\n{text}\n" for n, text in enumerate(texts))
    with pytest.raises(InputError, match=f"'{texts[0]}' is what was said, not who"):
        read(tmp_path, "\n".join(cues))


def test_texts_that_may_be_names_or_not_are_told(tmp_path, caplog):
    assert len(read(tmp_path, SRT.format("Hello there", "How are you", "Fine"))) == 3
    assert "a.srt: its texts are taken for names of speakers: Hello there" in caplog.text
    caplog.clear()
    read(tmp_path, SRT.format("Ada", "Bob", "Ada"))
    assert not caplog.text


def test_cues_of_no_length_and_without_empty_lines_between_them(tmp_path):
    text = "1\n00:00:00,000 --> 00:00:00,000\nAda: x\n2\n00:00:01 --> 00:00:02.5\nBob: y\n"
    assert read(tmp_path, text) == ((1, 2.5, "Bob"),)


@pytest.mark.parametrize(
    "times",
    ["00:00:02,000 --> 00:00:01,000", "00:99:00,000 --> 01:99:00,000", "-->", "nan --> inf",
     "00:00:01,000 -->", "1 --> 2", "-00:00:01,000 --> 00:00:02,000"],
)  # fmt: skip
def test_damaged_times_are_named(times, tmp_path):
    with pytest.raises(InputError, match=r"a\.srt, line 1: .* says no time"):
        read(tmp_path, f"{times}\nAda: x\n")


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_every_name_is_read_as_it_was_written_or_refused(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("captions") / "a.srt"
    names = list(dict.fromkeys(" ".join(name.split()) for name in names))
    turns = Turns("a", tuple(Turn(2 * n, 2 * n + 1, name) for n, name in enumerate(names)))
    try:
        save_turns(path, turns, "srt")
    except InputError:
        return
    assert [turn.speaker for turn in load_turns(path)["a"].turns] == names


def test_a_name_that_looks_like_a_mark_is_kept(tmp_path):
    names = ["Team A: Ann", "Team A: Bob", "[x]", "<b>", "- Cy"]
    turns = Turns("a", tuple(Turn(n, n + 1, name) for n, name in enumerate(names[:3])))
    save_turns(tmp_path / "a.srt", turns, "srt")
    assert "[Team A: Bob]" in (tmp_path / "a.srt").read_text()
    assert list(load_turns(tmp_path / "a.srt")["a"].speakers) == names[:3]
    with pytest.raises(InputError, match="'<b>': subtitles would say another name"):
        turns.rename({"[x]": "<b>"}).to_srt()
