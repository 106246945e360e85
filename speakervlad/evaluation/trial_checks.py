"""What is wrong with a trial list, before anybody trusts a number from it."""

import hashlib
from dataclasses import dataclass

import numpy as np

from speakervlad.data.manifest import Manifest, ranks_of
from speakervlad.errors import first_few
from speakervlad.evaluation.names import path_parts
from speakervlad.evaluation.speakers import contradictions, manifest_rows
from speakervlad.evaluation.trials import Trials

# (trials, targets) of the published lists, and the digest of the contents where it was computed.
KNOWN_LISTS = {
    (37_720, 18_860): (
        "VoxCeleb1-O, original",
        "281e0418cc7ed932373bad66bc0bce02e7dda860ed1da641b6e64f62f2306517",
    ),
    (37_611, 18_802): ("VoxCeleb1-O, cleaned", None),
    (581_480, 290_743): (
        "VoxCeleb1-E, original",
        "d18f9277d22aa29f382705e39b9aa0e320525e07de733f9df80dc908a43b7891",
    ),
    (579_818, 289_921): ("VoxCeleb1-E, cleaned", None),
    (552_536, 276_270): (
        "VoxCeleb1-H, original",
        "62518588a04e4069d89d652b658cec056510ebebfe20e05efc8a13d337219e2a",
    ),
    (550_894, 275_488): ("VoxCeleb1-H, cleaned", None),
}


@dataclass(frozen=True)
class TrialCheck:
    """Counts of a list and what deserves a look.

    Attributes:
        num_trials: lines.
        num_target: of the same speaker, None for a blind list.
        num_names: recordings and models named.
        num_speakers: speakers of these, when a manifest tells.
        known_as: name of the published list that this is, if any.
        problems: what makes figures on this list wrong, one sentence each.
        notes: what a reader of the figures should know, one sentence each.
    """

    num_trials: int
    num_target: int | None
    num_names: int
    num_speakers: int | None
    known_as: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_trials(
    trials: Trials, manifest: Manifest | None = None, train: Manifest | None = None
) -> TrialCheck:
    """Look for single classes, duplicates, self-pairs, wrong labels, missing files, speaker leaks.

    Args:
        trials: the list.
        manifest: of the recordings that the list names.
        train: of the recordings that the encoder was trained on.
    """
    problems, notes = [*_class_problems(trials), *_pair_problems(trials)], _notes(trials)
    num_speakers = None
    if manifest is not None:
        rows = manifest_rows(manifest, trials.names)
        num_speakers = len(np.unique(manifest.speaker_indices[rows[rows >= 0]]))
        problems += _manifest_problems(trials, manifest, rows)
        notes += _session_notes(trials, manifest, rows)
        if train is not None:
            problems += _speaker_leaks(manifest, rows, train)
    if train is not None:
        problems += _recording_leaks(trials, train)
    return TrialCheck(
        num_trials=len(trials),
        num_target=None if trials.is_target is None else int(trials.is_target.sum()),
        num_names=len(trials.names),
        num_speakers=num_speakers,
        known_as=known_list(trials),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def known_list(trials: Trials) -> str | None:
    """The published list with these counts, and whether the contents are the published ones too."""
    if trials.is_target is None:
        return None
    counts = len(trials), int(trials.is_target.sum())
    if counts not in KNOWN_LISTS:
        return None
    name, digest = KNOWN_LISTS[counts]
    if digest is None:
        return f"{name} (by its counts)"
    same = digest == content_digest(trials)
    return f"{name} (contents verified)" if same else f"{name} by its counts, with other contents"


def content_digest(trials: Trials) -> str:
    """SHA-256 of the sorted ``label enrol test`` lines, names cut to their last three parts.

    Order, folders, extensions and the file format do not matter.
    """
    names = ["/".join(path_parts(name)[-3:]) for name in trials.names.tolist()]
    labels = trials.labels().astype(int).tolist()
    columns = zip(labels, trials.enrol.tolist(), trials.test.tolist(), strict=True)
    lines = sorted(f"{label} {names[enrol]} {names[test]}\n" for label, enrol, test in columns)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _class_problems(trials: Trials) -> list[str]:
    if trials.is_target is None:
        return []
    num_target = int(trials.is_target.sum())
    if num_target in (0, len(trials)):
        return [
            f"one class only: {num_target} target, {len(trials) - num_target} non-target trials"
        ]
    return []


def _pair_codes(trials: Trials) -> np.ndarray:
    """(num_trials,) int: the same number for the same pair in either order."""
    low, high = np.minimum(trials.enrol, trials.test), np.maximum(trials.enrol, trials.test)
    return low * len(trials.names) + high


def _pair_problems(trials: Trials) -> list[str]:
    """Self-pairs, and pairs with both labels."""
    problems = []
    itself = np.flatnonzero(trials.enrol == trials.test)
    if len(itself):
        problems.append(
            f"{len(itself)} trials compare a recording with itself: "
            f"{first_few(trials.enrol_ids[itself[:6]])}"
        )
    if trials.is_target is not None:
        pairs = _pair_codes(trials)
        clashing = np.intersect1d(pairs[trials.is_target], pairs[~trials.is_target])
        if len(clashing):
            problems.append(f"{len(clashing)} pairs are labelled both target and non-target")
    return problems


def _notes(trials: Trials) -> list[str]:
    """No labels, repeated pairs."""
    notes = ["no labels: can be scored, not judged"] if trials.is_target is None else []
    num_repeated = len(trials) - len(np.unique(_pair_codes(trials)))
    if num_repeated:
        notes.append(f"{num_repeated} trials repeat an earlier pair, in this or the other order")
    return notes


def _session_notes(trials: Trials, manifest: Manifest, rows: np.ndarray) -> list[str]:
    """Target trials within a session, where the channel gives the answer away."""
    if trials.is_target is None:
        return []
    sessions = np.where(rows >= 0, ranks_of(manifest.sessions)[rows], -1 - np.arange(len(rows)))
    same = trials.is_target & (sessions[trials.enrol] == sessions[trials.test])
    if not same.any():
        return []
    return [f"{same.sum()} target trials are of one session, which flatters the system"]


def _manifest_problems(trials: Trials, manifest: Manifest, rows: np.ndarray) -> list[str]:
    """Names without a row, rows without a file, and labels that the speakers contradict."""
    problems = []
    unknown = trials.names[rows < 0]
    if len(unknown):
        problems.append(
            f"{len(unknown)} of {len(rows)} recordings are not in the manifest: "
            f"{first_few(unknown)}"
        )
    lost = [str(manifest.path(row)) for row in rows[rows >= 0] if not manifest.path(row).exists()]
    if lost:
        problems.append(f"{len(lost)} files do not exist: {first_few(lost)}")
    if trials.is_target is None:
        return problems
    both_known = (rows[trials.enrol] >= 0) & (rows[trials.test] >= 0)
    known = trials.select(both_known)
    wrong = contradictions(known, manifest.speaker_indices[rows])
    if len(wrong):
        named = [f"{known.enrol_ids[t]} {known.test_ids[t]}" for t in wrong[:6]]
        problems.append(
            f"{len(wrong)} labels contradict the speakers of the manifest: {first_few(named)}"
        )
    return problems


def _speaker_leaks(manifest: Manifest, rows: np.ndarray, train: Manifest) -> list[str]:
    """Speakers of the list that the encoder was trained on, by name."""
    codes = np.unique(manifest.speaker_indices[rows[rows >= 0]])
    tested = {manifest.speaker_names[code] for code in codes}
    shared = sorted(tested & set(train.speaker_names))
    if not shared:
        return []
    return [f"{len(shared)} of {len(tested)} speakers are in the training set: {first_few(shared)}"]


def _recording_leaks(trials: Trials, train: Manifest) -> list[str]:
    """Recordings of the list that the encoder was trained on, by id or path."""
    rows = manifest_rows(train, trials.names)
    leaked = trials.names[rows >= 0]
    if not len(leaked):
        return []
    return [f"{len(leaked)} recordings are in the training set: {first_few(leaked)}"]
