"""How a long recording is cut so that its pieces give exactly the frames of the whole."""

from typing import NamedTuple

# Frames at a cut are reflections of the signal; both lie in what is thrown away.
EDGE_FRAMES = 2


class Chunk(NamedTuple):
    """Samples ``start`` to ``stop``, of whose output frames ``first`` to ``last`` are kept.

    ``last`` is None in the last chunk, which keeps all.
    """

    start: int
    stop: int
    first: int
    last: int | None


class FrameGrid(NamedTuple):
    """Where an encoder's frames lie in time.

    Attributes:
        hop: samples per spectrogram frame.
        stride: spectrogram frames per output frame.
        context: spectrogram frames that an output frame sees on either side.
    """

    hop: int
    stride: int
    context: int


def plan_chunks(num_samples: int, grid: FrameGrid, chunk_frames: int) -> list[Chunk]:
    """Cut into chunks of about ``chunk_frames`` output frames and their context on both sides.

    The output frames kept are those of the whole signal, each once. Every chunk starts at a
    multiple of the total stride and is as long as the whole modulo that stride, so that strided
    layers with "same" padding, whose alignment depends on the length, see what they would see.
    """
    total = 1 + num_samples // grid.hop
    count = max(1, round(total / (chunk_frames * grid.stride)))
    margin = -(-(grid.context + EDGE_FRAMES) // grid.stride) + 1
    chunks = []
    for number in range(count):
        keep = number * chunk_frames
        begin = max(0, keep - margin)
        end = (keep + chunk_frames + margin) * grid.stride + total % grid.stride
        is_last = number == count - 1
        stop = num_samples if is_last or end >= total else (end - 1) * grid.hop
        last = None if is_last else keep + chunk_frames - begin
        chunks.append(Chunk(begin * grid.stride * grid.hop, stop, keep - begin, last))
    return chunks
