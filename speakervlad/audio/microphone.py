"""Samples from a microphone, by PortAudio: the extra ``live``."""

import queue
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from speakervlad.errors import InputError
from speakervlad.extras import require

# A device that gives nothing for so long has gone.
GONE_SECONDS = 3.0
# Of sound that waits because whoever asks for it is slow; more is lost.
MOST_WAITING_SECONDS = 30
BLOCK_SECONDS = 0.1


class Device(NamedTuple):
    """Something to listen with.

    Attributes:
        number: for ``--device``.
        name: as the system calls it.
        sample_rate: that it prefers, in Hz.
        is_default: whether it is taken where none is named.
    """

    number: int
    name: str
    sample_rate: int
    is_default: bool


def devices() -> list[Device]:
    """All that can be listened with.

    Raises:
        InputError: sounddevice or PortAudio is not installed.
    """
    sounddevice = _sounddevice()
    default = _default_input(sounddevice)
    return [
        Device(number, str(each["name"]), round(each["default_samplerate"]), number == default)
        for number, each in enumerate(sounddevice.query_devices())
        if each["max_input_channels"] > 0
    ]


class Microphone:
    """A device that is open until ``close``; used as a context it closes itself.

    Args:
        device: its number, or part of its name; None for the system's own choice.

    Attributes:
        sample_rate: of its samples, that which it prefers.
        num_lost: samples that nobody took in time.

    Raises:
        InputError: sounddevice or PortAudio is not installed, no such device, none at all, or it is
            in use by another program.
    """

    def __init__(self, device: str | int | None = None) -> None:
        sounddevice = _sounddevice()
        self.num_lost = 0
        number = int(device) if isinstance(device, str) and device.isdecimal() else device
        if number is None and not devices():
            raise InputError("no microphone was found. Plug one in, or send sound: `listen -`.")
        try:
            described = sounddevice.query_devices(number, "input")
            self.name = str(described["name"])
            self.sample_rate = round(described["default_samplerate"])
        except (ValueError, sounddevice.PortAudioError) as error:
            raise InputError(
                f"--device {device}: no such microphone ({_said(error)}). See --list-devices."
            ) from error
        waiting = round(MOST_WAITING_SECONDS / BLOCK_SECONDS)
        self._blocks: queue.Queue[np.ndarray] = queue.Queue(waiting)
        try:
            self._stream = sounddevice.InputStream(
                device=number,
                samplerate=self.sample_rate,
                channels=1,
                dtype="float32",
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                callback=self._take,
            )
            self._stream.start()
        except (ValueError, sounddevice.PortAudioError) as error:
            raise InputError(
                f"{self.name}: cannot be opened ({_said(error)}). Is another program using it, or "
                "may this one not? --list-devices lists others."
            ) from error

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the device."""
        with suppress(Exception):  # it may have been unplugged
            self._stream.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 (samples,), a tenth of a second each, without an end.

        Raises:
            InputError: the device gives no more sound.
        """
        waited = 0.0
        while True:
            try:
                block = self._blocks.get(timeout=BLOCK_SECONDS)
            except queue.Empty:
                waited += BLOCK_SECONDS
                if not self._stream.active or waited >= GONE_SECONDS:
                    raise InputError(
                        f"{self.name}: gives no more sound. Was it unplugged?"
                    ) from None
                # So that whoever listens may stop meanwhile.
                block = np.zeros(0, np.float32)
            else:
                waited = 0.0
            yield block

    def _take(self, data: np.ndarray, count: int, _time: Any, _status: Any) -> None:  # noqa: ANN401
        try:
            self._blocks.put_nowait(data[:, 0].copy())
        except queue.Full:
            self.num_lost += count


def _default_input(sounddevice: ModuleType) -> int | None:
    try:
        return sounddevice.query_devices(None, "input")["index"]
    except (ValueError, KeyError, sounddevice.PortAudioError):
        return None


def _sounddevice() -> ModuleType:
    require("sounddevice", "live", "a microphone")
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except OSError as error:
        raise InputError(
            f"a microphone needs PortAudio ({_said(error)}). Install it: apt install "
            "libportaudio2, dnf install portaudio, brew install portaudio."
        ) from error
    return sounddevice


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
