"""The trial lists that are judged while training, until a signal comes."""

from collections.abc import Callable, Iterable, Iterator

from speakervlad.config import DataConfig
from speakervlad.progress import Item, Tracker
from speakervlad.tables.manifest import load_manifest
from speakervlad.verification.listed import TrialList


def read_lists(config: DataConfig) -> list[TrialList]:
    """The validation lists that a config names."""
    manifest = (
        load_manifest(config.valid_manifest, config.valid_root) if config.valid_manifest else None
    )
    return [TrialList.read(path, config.valid_root, manifest) for path in config.valid_trials]


class Interrupted(Exception):  # noqa: N818
    """A signal came before a validation's end."""


def until(asked: Callable[[], bool]) -> Tracker:
    """A tracker that raises ``Interrupted`` at the first item after a signal."""

    def stop(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        for item in items:
            if asked():
                raise Interrupted
            yield item

    return stop
