"""From clusters of windows to one speaker for every frame."""

import numpy as np

from speakervlad.diarization.frames import SpeechFrames

# Frames on either side that a frame is judged with: 1.4 s with the encoder that ships.
NEIGHBOURS = 0.64
# What a cosine is worth in natural logarithms, a frame, and what a change of speaker costs within
# speech and at a pause.
SHARPNESS = 3.0
CHANGE, CHANGE_AT_PAUSE = 3.5, 1.5


def resegment(frames: SpeechFrames, labels: np.ndarray, num_speakers: int) -> np.ndarray:
    """The best sequence of speakers (Viterbi 1967), given the frames of each so far.

    A frame's neighbourhood within its segment is pooled as a recording is, and its cosine to each
    speaker's vector, pooled from all frames of that label, says how well the two agree.

    Args:
        frames: of the recording.
        labels: (frames,) from 0, or -1 for frames that make no speaker's vector.
        num_speakers: as many as labels name.

    Returns:
        (frames,) int, from 0.
    """
    speakers = np.stack([frames.vector(labels == number) for number in range(num_speakers)])
    around = neighbourhoods(frames, round(NEIGHBOURS / frames.seconds))
    agreement = np.concatenate(
        [frames.vectors(part) @ speakers.T for part in np.array_split(around, 1 + len(around) // 1000)]
    )
    # Short neighbourhoods are less sure.
    sure = np.sqrt((around[:, 1] - around[:, 0]) / (around[:, 1] - around[:, 0]).max())
    changes = np.full(len(frames), CHANGE)
    changes[frames.frame_spans()[1:, 0].clip(max=len(frames) - 1)] = CHANGE_AT_PAUSE
    return best_path(SHARPNESS * sure[:, None] * agreement, changes)


def neighbourhoods(frames: SpeechFrames, reach: int) -> np.ndarray:
    """(frames, 2): the frames within ``reach`` of each that belong to the same segment."""
    numbers = np.arange(len(frames))
    around = np.stack([numbers, numbers + 1], axis=1)
    for first, stop in frames.frame_spans().tolist():
        own = numbers[first:stop]
        around[first:stop, 0] = np.maximum(own - reach, first)
        around[first:stop, 1] = np.minimum(own + reach + 1, stop)
    return around


def best_path(scores: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """The states (frames,) of the largest sum of scores less what changes of state cost.

    Args:
        scores: (frames, states).
        changes: (frames,), the cost of a change between a frame and the one before it.
    """
    total = scores[0].astype(np.float64)
    came_from = np.zeros(scores.shape, np.int32)
    for number in range(1, len(scores)):
        best = int(total.argmax())
        stay = total >= total[best] - changes[number]
        came_from[number] = np.where(stay, np.arange(len(total)), best)
        total = np.where(stay, total, total[best] - changes[number]) + scores[number]
    path = np.zeros(len(scores), int)
    path[-1] = total.argmax()
    for number in range(len(scores) - 1, 0, -1):
        path[number - 1] = came_from[number, path[number]]
    return path
