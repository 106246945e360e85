"""What the page can be tried with: recordings of the package, and what is made of them."""

import io
from functools import cache
from itertools import combinations

import numpy as np
import soundfile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from speakervlad.audio.examples import examples
from speakervlad.audio.spans import load_audio
from speakervlad.page.answers import Desk
from speakervlad.sound import SAMPLE_RATE

TALK = ("alex-1", "jo-1", "alex-2", "sam-1", "jo-2", "alex-3")
PAUSE_SECONDS = 0.3


def example(desk: Desk, name: str) -> Response:
    """A clip, ``conversation`` (WAV, three people), or ``scores`` (all pairs of clips).

    Raises:
        HTTPException: none of that name.
    """
    if name == "conversation":
        return Response(conversation(), media_type="audio/wav")
    if name == "scores":
        return Response(scores(desk), media_type="text/plain")
    path = examples().get(name)
    if path is None:
        raise HTTPException(404, "no such example.")
    return Response(path.read_bytes(), media_type="audio/ogg")


@cache
def conversation() -> bytes:
    """Three people, half a minute."""
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts = [part for name in TALK for part in (load_audio(examples()[name]), pause)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), SAMPLE_RATE, "PCM_16", format="WAV")
    return file.getvalue()


def scores(desk: Desk) -> str:
    """Enrolment, test, score and whether it is one person, of all pairs of clips."""
    clips = examples()
    vectors = dict(zip(clips, desk.embedder.embed_files(list(clips.values())), strict=True))
    return "".join(
        f"{one} {other} {float(vectors[one] @ vectors[other]):.6f} "
        f"{int(one.split('-')[0] == other.split('-')[0])}\n"
        for one, other in combinations(clips, 2)
    )
