"""What another network says about the utterances: targets beside the labels."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speakervlad.config import Config, TeacherConfig
from speakervlad.errors import InputError, first_few
from speakervlad.tables.interchange import load_embeddings
from speakervlad.tables.manifest import Manifest


class Targets(NamedTuple):
    """What is taught.

    Attributes:
        vectors: float32 unit vectors (speeds, utterances, dim); zeros where nothing is known.
        labelled: bool (speakers,), whose labels count.
        centre: (dim,), what was subtracted from the embeddings of the encoder that a run starts
            from.
    """

    vectors: Tensor
    labelled: Tensor
    centre: Tensor | None = None


def check_teacher(config: Config) -> None:
    """Refuse files that do not go with the speeds, and weights without a teacher.

    Raises:
        InputError: as said.
    """
    teacher, count = config.teacher, len(config.augment.speeds)
    if teacher.start and teacher.embeddings:
        raise InputError("teacher.start and teacher.embeddings are two teachers. Choose one.")
    if teacher.embeddings and len(teacher.embeddings) != count:
        raise InputError(
            f"teacher.embeddings: {len(teacher.embeddings)} files for {count} speeds in "
            "augment.speeds. Name one for each, in their order."
        )
    if teacher != TeacherConfig() and not (teacher.embeddings or teacher.start):
        raise InputError(
            "teacher needs teacher.embeddings, a file for each speed, or teacher.start=true."
        )


def read_targets(config: Config, manifest: Manifest) -> Targets | None:
    """The targets that a config names; None without a teacher.

    At every speed the mean of the unit vectors is subtracted: a teacher's vectors share one (of
    length 0.33 with CAM++), which embeddings that batch norm has centred cannot reach.

    Raises:
        InputError: a file is none, lacks utterances, or has another dimension than the rest, or
            than the encoder where ``teacher.cosine`` compares them.
    """
    if not config.teacher.embeddings:
        return None
    tables = [_table(path, manifest) for path in config.teacher.embeddings]
    dims = {table.shape[1] for table in tables}
    wanted = config.encoder.embedding_dim
    if len(dims) > 1 or (config.teacher.cosine and dims != {wanted}):
        raise InputError(
            f"teacher.embeddings have {sorted(dims)} dimensions, encoder.embedding_dim is {wanted}."
            " Make them equal, or use teacher.similarity alone, which needs one dimension of "
            "the teacher's files."
        )
    return Targets(torch.stack(tables), labelled(config, manifest))


def labelled(config: Config, manifest: Manifest) -> Tensor:
    """Bool (speakers,): those with utterances enough for the classifier's loss."""
    counts = np.bincount(manifest.speaker_indices, minlength=len(manifest.speaker_names))
    return torch.from_numpy(counts >= config.teacher.fewest_utterances)


def _table(path: str, manifest: Manifest) -> Tensor:
    """A file's vectors around their mean, in the order of the manifest."""
    embeddings = load_embeddings(path)
    places = {name: place for place, name in enumerate(embeddings.ids.tolist())}
    missing = [name for name in manifest.utterance_ids if name not in places]
    if missing:
        raise InputError(
            f"{path}: lacks {len(missing)} of the {len(manifest)} training utterances: "
            f"{first_few(missing)}."
        )
    rows = [places[name] for name in manifest.utterance_ids]
    unit = F.normalize(torch.from_numpy(embeddings.vectors[rows]))
    return F.normalize(unit - unit.mean(dim=0))
