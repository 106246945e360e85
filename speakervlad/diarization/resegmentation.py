"""From clusters of windows to one speaker for every frame."""

import numpy as np

from speakervlad.diarization.frames import SpeechFrames

# Seconds to either side that a frame is judged with.
REACH = 0.48
# What a cosine is worth in natural logarithms, a frame, and what a change of speaker costs within
# speech and at a pause.
SHARPNESS = 5.0
CHANGE, CHANGE_AT_PAUSE = 3.0, 1.5
# Frames whose vectors are held at once.
BLOCK = 1000


def resegment(frames: SpeechFrames, speakers: np.ndarray) -> np.ndarray:
    """The best sequence of speakers (Viterbi 1967).

    The frames around each, within its segment, are pooled as a recording is; the cosine with a
    speaker's vector says how well the two agree.

    Args:
        frames: of the recording.
        speakers: (speakers, dim) unit vectors.

    Returns:
        (frames,) int: rows of ``speakers``.
    """
    around = frames.around(REACH)
    blocks = np.array_split(around, 1 + len(around) // BLOCK)
    agreement = np.concatenate([frames.vectors(block) @ speakers.T for block in blocks])
    # Fewer frames are less certain.
    sizes = around[:, 1] - around[:, 0]
    scores = SHARPNESS * np.sqrt(sizes / sizes.max())[:, None] * agreement
    changes = np.full(len(frames), CHANGE)
    begins = frames.segments()[:, 0]
    changes[begins[begins < len(frames)]] = CHANGE_AT_PAUSE
    return best_path(scores, changes)


def best_path(scores: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """The states (frames,) of the largest sum of scores less what changes of state cost.

    Args:
        scores: (frames, states).
        changes: (frames,), the cost of a change between a frame and the one before it.
    """
    states = np.arange(scores.shape[1])
    total = scores[0].astype(np.float64)
    came_from = np.zeros(scores.shape, np.int32)
    for frame in range(1, len(scores)):
        best = int(total.argmax())
        changed = total[best] - changes[frame]
        came_from[frame] = np.where(total >= changed, states, best)
        total = np.maximum(total, changed) + scores[frame]
    path = np.zeros(len(scores), int)
    path[-1] = total.argmax()
    for frame in range(len(scores) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path
