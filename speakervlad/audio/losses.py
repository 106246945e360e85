"""What of a compressed file cannot be decoded: little of it is told, more is refused."""

import logging

from speakervlad.audio.remarks import remark
from speakervlad.audio.source import UndecodableError
from speakervlad.errors import first_few

logger = logging.getLogger(__name__)

# Share of a recording that may be lost.
TOLERATED = 0.01
# A parser puts some bytes of its neighbours into a packet that is damaged.
PARSED_BESIDES = 3.0
# Clocks of recorders jump by less without a loss.
SHORTEST_GAP = 0.1


class Losses:
    """Pieces of one file that its decoder left out, in the order of time.

    Args:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self._places: list[float] = []
        self._gaps: list[tuple[float, float]] = []

    def add(self, seconds: float, at: float) -> None:
        """Note so many seconds that cannot be decoded, after ``at`` seconds that could."""
        self.seconds += seconds
        self._places.append(at)

    def add_gap(self, seconds: float, at: float) -> None:
        """Note so many seconds that the times of a file leave out, though all of it is decoded."""
        self._gaps.append((seconds, at))

    def add_rest(self, seconds: float) -> None:
        """If anything is lost, it is so many seconds in all, where that is far more than noted."""
        if self._places and seconds > PARSED_BESIDES * self.seconds:
            self.seconds = seconds

    def check(self, total: float) -> None:
        """Refuse a recording of so many seconds if too many of them are lost.

        Raises:
            UndecodableError: more than ``TOLERATED``.
        """
        if self.seconds > TOLERATED * total:
            raise UndecodableError(
                f"truncated or damaged ({self.seconds:.3g} s of {total:.3g} s cannot be decoded, "
                f"at {self._where()}). Get it again."
            )

    def judge(self, decoded: float) -> None:
        """Warn once of what is lost.

        Args:
            decoded: seconds of the recording that could be decoded.

        Raises:
            UndecodableError: it is more than ``TOLERATED``.
        """
        self.check(decoded + self.seconds)
        if self._places:
            remark(
                logger,
                self.name,
                f"{self.seconds:.3g} s cannot be decoded, at {self._where()}: damaged in between, "
                "or several files joined. The rest is used.",
                once=True,
            )
        if self._gaps:
            places = first_few((f"{at:.2f} s" for _, at in self._gaps), 3)
            seconds = sum(seconds for seconds, _ in self._gaps)
            remark(
                logger,
                self.name,
                f"its times leave out {seconds:.3g} s, at {places}: a pause of the recorder, or "
                "lost on the way. What follows is earlier by that.",
                once=True,
            )

    def _where(self) -> str:
        """The places, those that follow at once as one."""
        apart = [
            place
            for before, place in zip([-1.0, *self._places], self._places, strict=False)
            if place > before
        ]
        return first_few((f"{place:.2f} s" for place in apart), 3)
