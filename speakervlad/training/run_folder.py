"""The folder of one run: opened once, refused when it would lose something."""

import logging
import shutil
from pathlib import Path

from speakervlad.config import Config, load_config, to_yaml
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.plain import differences
from speakervlad.training.checkpoint import TrainingState
from speakervlad.training.distributed import World

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
STATE_NAME = "last.pt"
# Keys that may change between the parts of one run: they do not change what is learnt.
FREE_KEYS = (
    "resume",
    "run_dir",
    "classifier.sharded",
    "data.num_workers",
    "data.max_bad_fraction",
    "train.device",
    "train.compile",
    "train.log_every",
    "train.save_every",
)


def open_run(config: Config, world: World) -> TrainingState | None:
    """Make the run folder, or check that it may go on; the first process does, the others follow.

    Returns:
        The state to resume from, or None for a fresh start.

    Raises:
        InputError: the folder holds a run and ``resume`` is not set, or the config has changed.
    """
    state = _open(config) if world.is_main else None
    world.wait()
    path = Path(config.run_dir) / STATE_NAME
    if not world.is_main and path.exists():
        state = TrainingState.load(path)
    return state


def _open(config: Config) -> TrainingState | None:
    folder = Path(config.run_dir)
    state_path, config_path = folder / STATE_NAME, folder / CONFIG_NAME
    if state_path.exists() and not config.resume:
        raise InputError(f"{folder}: already holds a run. Use resume=true or another run_dir.")
    if state_path.exists():
        _refuse_changes(config, config_path)
        state = TrainingState.load(state_path)
        logger.info("resuming %s at step %d", folder, state.step)
        return state
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    with atomic_path(config_path) as path:
        path.write_text(to_yaml(config))
    return None


def _refuse_changes(config: Config, path: Path) -> None:
    changed = {
        key: values
        for key, values in differences(load_config(path), config).items()
        if key not in FREE_KEYS
    }
    if changed:
        shown = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
        raise InputError(f"{path}: the config has changed ({shown}). Start another run_dir.")
