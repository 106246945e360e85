"""Transcripts in the layouts that speech recognisers document, given speakers by turns."""

import json

import pytest

from speakervlad.diarization.transcripts import (
    Segment,
    Transcript,
    Word,
    label_transcript,
    load_transcript,
    save_transcript,
)
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.errors import InputError

TURNS = Turns("talk", (Turn(0, 3, "Ada"), Turn(3, 6, "Kim"), Turn(5.5, 8, "Ada")))
WHISPER = {
    "text": " Good morning. Hello Ada.",
    "language": "en",
    "segments": [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 6.0,
            "text": " Good morning. Hello Ada.",
            "tokens": [1, 2],
            "temperature": 0.0,
            "words": [
                {"word": " Good", "start": 0.2, "end": 0.6, "probability": 0.9},
                {"word": " morning.", "start": 0.6, "end": 1.4, "probability": 0.9},
                {"word": " Hello", "start": 3.2, "end": 3.6, "probability": 0.9},
                {"word": " Ada.", "start": 3.6, "end": 4.2, "probability": 0.9},
            ],
        }
    ],
}
WHISPERX = {
    "segments": [
        {
            "start": 0.2,
            "end": 4.2,
            "text": "It is 1999 now",
            "words": [
                {"word": "It", "start": 0.2, "end": 0.4, "score": 0.8},
                {"word": "is", "start": 0.5, "end": 0.7, "score": 0.8},
                {"word": "1999"},
                {"word": "now", "start": 3.4, "end": 3.9, "score": 0.8},
            ],
        }
    ],
    "word_segments": [],
    "language": "en",
}
SRT = (
    "1\r\n00:00:00,500 --> 00:00:02,000\r\nGood morning.\r\nAll.\r\n\r\n"
    "2\n00:00:03,000 --> 00:00:05,000\nHello.\n"
)
VTT = (
    "WEBVTT\n\nNOTE a note\n\n00:00.500 --> 00:02.000 align:start\n"
    "<v Somebody>Good &amp; early.</v>\n\n1:00:00.000 --> 1:00:01.000\nLate.\n"
)


def saved(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def labelled(tmp_path, name, content):
    return label_transcript(load_transcript(saved(tmp_path, name, content)), TURNS)


def test_a_segment_of_whisper_is_cut_where_the_speaker_changes(tmp_path):
    found = labelled(tmp_path, "a.json", WHISPER)
    assert [(each.speaker, each.text) for each in found.segments] == [
        ("Ada", " Good morning."),
        ("Kim", " Hello Ada."),
    ]
    first, second = found.segments
    assert (first.start, first.end, second.start, second.end) == (0.0, 1.4, 3.2, 6.0)
    save_transcript(tmp_path / "out.json", found)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["language"] == "en"
    assert [each["speaker"] for each in written["segments"]] == ["Ada", "Kim"]
    assert written["segments"][1]["words"][0] == {
        "word": " Hello", "start": 3.2, "end": 3.6, "speaker": "Kim",
    }  # fmt: skip
    # What tells of the whole segment alone is of no part of it.
    assert "tokens" not in written["segments"][0]
    assert written["segments"][0]["temperature"] == 0.0


def test_a_word_of_whisperx_without_times_is_of_the_speaker_before_it(tmp_path):
    found = labelled(tmp_path, "x.json", WHISPERX)
    assert [(each.speaker, each.text) for each in found.segments] == [
        ("Ada", "It is 1999"),
        ("Kim", "now"),
    ]


def test_a_list_of_segments_and_whisper_cpp_are_read(tmp_path):
    plain = [{"start": 0, "end": 2, "text": "One."}, {"start": 3.5, "end": 5, "text": "Two."}]
    found = labelled(tmp_path, "list.json", plain)
    assert [each.speaker for each in found.segments] == ["Ada", "Kim"]
    cpp = {"transcription": [{"offsets": {"from": 3500, "to": 5000}, "text": " Two."}]}
    assert labelled(tmp_path, "cpp.json", cpp).segments[0].speaker == "Kim"


def test_subtitles(tmp_path):
    found = labelled(tmp_path, "a.srt", SRT)
    assert [(each.speaker, each.text) for each in found.segments] == [
        ("Ada", "Good morning.\nAll."),
        ("Kim", "Hello."),
    ]
    save_transcript(tmp_path / "b.srt", found)
    assert "[Kim]: Hello.\n" in (tmp_path / "b.srt").read_text()
    web = load_transcript(saved(tmp_path, "a.vtt", VTT))
    assert [(each.start, each.end, each.text) for each in web.segments] == [
        (0.5, 2.0, "Good & early."),
        (3600.0, 3601.0, "Late."),
    ]
    # An hour after the last turn nobody is known to speak.
    late = label_transcript(web, TURNS)
    assert [each.speaker for each in late.segments] == ["Ada", None]
    save_transcript(tmp_path / "b.vtt", late)
    again = (tmp_path / "b.vtt").read_text()
    assert again.startswith("WEBVTT\n\n")
    assert "<v Ada>Good &amp; early." in again


def test_a_time_beside_the_turns_is_of_the_nearest_within_a_second():
    spoken = Transcript((Segment(8.5, 8.9, "near"), Segment(9.5, 9.9, "far")))
    assert [each.speaker for each in label_transcript(spoken, TURNS).segments] == ["Ada", None]


def test_who_has_most_of_a_word_says_it():
    words = (Word("both", 5.0, 7.5),)
    (segment,) = label_transcript(Transcript((Segment(5, 7.5, "both", words),)), TURNS).segments
    assert segment.speaker == "Ada"


def test_text_and_csv(tmp_path):
    found = labelled(tmp_path, "a.json", WHISPER)
    save_transcript(tmp_path / "a.txt", found)
    assert (tmp_path / "a.txt").read_text() == (
        "[0:00:00] Ada: Good morning.\n\n[0:00:03] Kim: Hello Ada.\n"
    )
    save_transcript(tmp_path / "a.csv", found)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "start,end,speaker,text",
        "0.000,1.400,Ada,Good morning.",
        "3.200,6.000,Kim,Hello Ada.",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"segments": [{"start": "x", "end": 1, "text": ""}]}),
        ("a.json", {"words": []}),
        ("a.json", "7"),
        ("a.json", '{"segments": [{'),
        ("a.json", "[" * 100_000),
        ("a.json", '{"segments": [{"start": NaN, "end": 1, "text": ""}]}'),
        ("a.json", '{"segments": [{"start": 0, "end": 1e999, "text": ""}]}'),
        ("a.json", {"segments": [{"start": -1, "end": 1, "text": ""}]}),
        ("a.json", {"transcription": [{"offsets": {"from": 0, "to": 10**400}, "text": ""}]}),
        ("a.srt", "no times here"),
        ("a.srt", f"1\n{'0:' * 400}1 --> 00:02\nText"),
        ("a.srt", f"1\n{'9' * 400} --> 00:02\nText"),
        ("a.srt", "1\n00:x0 --> 00:02\nText"),
        ("a.docx", "text"),
    ],
)
def test_what_is_no_transcript_is_named(tmp_path, name, content):
    path = saved(tmp_path, name, content)
    with pytest.raises(InputError, match=str(path)):
        load_transcript(path)


def test_halves_of_characters_are_written_as_question_marks(tmp_path):
    path = saved(tmp_path, "a.json", '[{"start": 0, "end": 1, "text": "\\ud800"}]')
    save_transcript(tmp_path / "out.srt", load_transcript(path))
    assert (tmp_path / "out.srt").read_text().splitlines()[2] == "?"
