"""What every reader of others' weights is, and what becomes of what it reads.

The table is in ``readers.py``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from speakervlad.config import EncoderConfig
from speakervlad.models.folder import assemble_encoder, load_strictly, save_classifier, save_encoder

# What our batch norms count; where others do not, it is as if they had counted nothing.
COUNTER = "num_batches_tracked"


class Converted(NamedTuple):
    """Weights of others in our places.

    Attributes:
        config: of the encoder.
        state: its state dict; counters of batches may be missing.
        told: what it is, in a few words.
        classifier: class weights (classes, dim), where they came along.
    """

    config: EncoderConfig
    state: dict[str, Tensor]
    told: str
    classifier: Tensor | None = None


class Reader(ABC):
    """Reads the files of one toolkit.

    Attributes:
        needs: a module beside torch that it needs, and the extra of ours that installs it.
    """

    needs: tuple[str, str] | None = None

    @abstractmethod
    def read(self, paths: Sequence[Path]) -> Converted:
        """Weights and config of an encoder.

        Raises:
            InputError: a file is not readable, or what they hold is not exactly a network that the
                reader knows.
        """


def write_folder(out: str | Path, converted: Converted, paths: Sequence[Path]) -> None:
    """Write an encoder folder; it remembers the names of the files that it comes from.

    Raises:
        InputError: the folder cannot be written.
    """
    encoder = assemble_encoder(converted.config)
    counters = {key: x for key, x in encoder.state_dict().items() if key.endswith(COUNTER)}
    load_strictly(encoder, counters | converted.state, ", ".join(map(str, paths)))
    notes = {"converted_from": ", ".join(path.name for path in paths)}
    save_encoder(out, encoder, converted.config, notes)
    if converted.classifier is not None:
        save_classifier(out, converted.classifier)
