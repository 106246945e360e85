"""Modules of version 0.2.0 that have moved: they are imported still, with a warning.

Names within them that have changed too are in ``deprecated.py``.
"""

import importlib
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from speakervlad.deprecated import NAMES

PACKAGES = ("data", "evaluation", "inference", "serve")
# The old module, and those that hold its names now.
MODULES: dict[str, tuple[str, ...]] = {
    "data.audio": ("audio.reading", "audio.spans", "audio.quality", "audio.writing"),
    "data.channels": ("audio.channels",),
    "data.dataset": ("corpus.dataset",),
    "data.decoding": ("audio.decoding", "audio.source", "audio.pyav", "audio.packed"),
    "data.examples": ("audio.examples",),
    "data.layouts": ("corpus.layouts",),
    "data.manifest": ("tables.manifest",),
    "data.packing": ("corpus.packing",),
    "data.prepare": ("corpus.prepare",),
    "data.speech": ("audio.speech",),
    "data.voices": ("corpus.voices",),
    "data.work": ("corpus.work",),
    "evaluation.arrays": ("tables.arrays",),
    "evaluation.bootstrap": ("scoring.bootstrap",),
    "evaluation.calibration": (
        *("scoring.calibration", "scoring.fusion", "scoring.logistic", "scoring.quality"),
    ),
    "evaluation.checks": ("scoring.checks",),
    "evaluation.decision": ("verification.rules", "verification.thresholds"),
    "evaluation.diarization_errors": ("diarization.der",),
    "evaluation.embeddings": (
        *("tables.embeddings", "tables.interchange", "tables.kaldi", "tables.parquet"),
    ),
    "evaluation.judge": ("scoring.judge", "scoring.systems", "scoring.align", "scoring.breakdown"),
    "evaluation.lists": (
        *("scoring.lists", "scoring.trials", "scoring.scores"),
        *("scoring.nist", "scoring.enrolment"),
    ),
    "evaluation.metrics": ("scoring.metrics", "scoring.points"),
    "evaluation.names": ("tables.names", "scoring.speakers"),
    "evaluation.plots": ("scoring.plots", "figures"),
    "evaluation.report": ("scoring.report",),
    "evaluation.scoring": ("scoring.scoring",),
    "evaluation.tables": ("tables.columns",),
    "evaluation.turns": ("diarization.turns",),
    "inference.backends": (
        *("encoder.runtimes", "encoder.backends"),
        *("encoder.torch_backend", "encoder.openvino_backend"),
    ),
    "inference.card": ("encoder.card", "encoder.location", "verification.known"),
    "inference.engine": ("encoder.encoder", "encoder.windows", "encoder.streams"),
    "inference.explain": ("encoder.explain",),
    "inference.export": ("encoder.export",),
    "inference.frames": ("encoder.frames",),
    "inference.keras": ("checkpoints.keras",),
    "inference.listed": ("verification.listed",),
    "inference.network": ("encoder.network",),
    "inference.recordings": ("corpus.inputs",),
    "inference.shares": ("encoder.shares",),
    "inference.speech": ("audio.recording", "audio.speech"),
    "inference.waves": ("audio.waves", "audio.on_disk", "audio.recording"),
    "serve.answers": ("page.answers",),
    "serve.app": ("page.app",),
    "serve.conversation": ("page.conversation",),
    "serve.document": ("page.document",),
    "serve.enrolment": ("page.enrolment",),
    "serve.guard": ("page.guard",),
    "serve.pictures": ("page.pictures",),
    "serve.uploads": ("page.uploads",),
    "serve.work": ("page.work",),
}
ROOT = "speakervlad."
# Names of functions as they are now, where ``deprecated.NAMES`` does not say so.
RENAMED = {"read_scored": "load_scores"}


class MovedModules:
    """Finds and makes modules under their old names; they look names up where these are now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What Python's import asks every finder: whether a module is one of these."""
        old = name.removeprefix(ROOT)
        if name == old or (old not in PACKAGES and old not in MODULES):
            return None
        return ModuleSpec(name, self, is_package=old in PACKAGES)  # pyright: ignore[reportArgumentType]

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill it: with nothing but a way to look for names."""
        places = MODULES.get(module.__name__.removeprefix(ROOT), ())
        if places:
            warnings.warn(
                f"{module.__name__} is {' and '.join(ROOT + place for place in places)} now",
                DeprecationWarning,
                stacklevel=2,
            )

        def look_up(name: str) -> object:
            # Python asks modules for such names, as for __path__; they are of the module itself.
            known = (name, (NAMES | RENAMED).get(name, name))
            for place in () if name.startswith("__") else places:
                found = vars(importlib.import_module(ROOT + place))
                for each in known:
                    if each in found:
                        return found[each]
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = look_up
