"""The mean of several encoders of one run, which is often better than each."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from speakervlad.errors import InputError
from speakervlad.models.build import (
    CLASSIFIER_NAME,
    load_encoder_folder,
    save_classifier,
    save_encoder,
)

State = dict[str, torch.Tensor]


def average_encoders(folders: Sequence[str | Path], out: str | Path) -> None:
    """Write the encoder whose weights and running statistics are the means of several encoders'.

    Classifiers are averaged where every folder keeps one.

    Raises:
        InputError: a folder is no encoder, they are not of one config, or there is none.
    """
    if not folders:
        raise InputError("no encoder to average. Name the folders.")
    encoder, config = load_encoder_folder(folders[0])
    states = [encoder.state_dict()]
    for folder in folders[1:]:
        other, other_config = load_encoder_folder(folder)
        if other_config != config:
            raise InputError(f"{folder}: its config is not that of {folders[0]}. Average one run.")
        states.append(other.state_dict())
    encoder.load_state_dict(mean_state(states))
    save_encoder(out, encoder, config, {"averaged": str(len(folders))})
    kept = [Path(folder) / CLASSIFIER_NAME for folder in folders]
    if all(path.is_file() for path in kept):
        save_classifier(out, mean_state([load_file(path) for path in kept])["weight"])


def mean_state(states: Sequence[State]) -> State:
    """The mean of every tensor; counters are those of the last state."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def keep_last(folder: Path, count: int) -> list[Path]:
    """Encoders ``step-...`` of a folder, by step; all but the last ``count`` are removed."""
    found = sorted(folder.glob("step-*"))
    for old in found[:-count]:
        shutil.rmtree(old)
    return found[-count:]
