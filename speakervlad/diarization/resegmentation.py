"""The best sequence of states."""

import numpy as np


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
