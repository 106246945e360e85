"""Trial lists checked before anybody trusts a number from them, and trial lists drawn."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.scoring.speakers import contradictions
from speakervlad.scoring.trials import Trials
from speakervlad.tables.manifest import Manifest, ranks_of
from speakervlad.tables.names import manifest_rows, path_parts

logger = logging.getLogger(__name__)

ATTEMPTS_PER_TRIAL = 20
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
        named = first_few(map(known.spelt, wrong[:6]))
        problems.append(f"{len(wrong)} labels contradict the speakers of the manifest: {named}")
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


def make_trials(
    manifest: Manifest,
    *,
    per_speaker: int = 20,
    match: Sequence[str] = (),
    allow_same_session: bool = False,
    seed: int = 0,
) -> Trials:
    """As many non-target as target trials, at most ``per_speaker`` of each per enrolled speaker.

    Target trials join two sessions of a speaker; a speaker with too few pairs gives fewer. The
    impostors of a speaker share its values of the ``match`` columns, so that the corpus (or gender)
    cannot give the answer away; each other speaker is as likely as the next. No pair occurs twice,
    in either order.

    Args:
        manifest: utterances.
        per_speaker: target trials, and non-target trials, per enrolled speaker.
        match: manifest columns whose values impostors share, such as ``corpus``.
        allow_same_session: let target trials come from one session.
        seed: of all draws.

    Raises:
        InputError: no target or no non-target trial can be drawn, or an unknown column.
    """
    if per_speaker < 1:
        raise InputError(f"{per_speaker} trials per speaker: choose at least 1.")
    speakers, sessions = manifest.speaker_indices, ranks_of(manifest.sessions)
    groups = _groups(manifest, match)
    order = np.argsort(speakers, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(speakers[order])) + 1)
    peers = _peers(rows_of, groups)
    labelled: dict[tuple[int, int], bool] = {}
    for speaker, rows in enumerate(rows_of):
        rng = np.random.default_rng((seed, speaker))
        targets = _target_pairs(rows, sessions, per_speaker, allow_same_session, rng)
        others = [rows_of[peer] for peer in peers[speaker]]
        impostors = _impostor_pairs(rows, others, len(targets), labelled, rng)
        labelled |= dict.fromkeys(targets, True) | dict.fromkeys(impostors, False)
    labels = list(labelled.values())
    _check_classes(labels, allow_same_session)
    ids = np.asarray(list(manifest.utterance_ids))
    enrol, test = np.array(list(labelled)).T
    logger.info("%d target and %d non-target trials", sum(labels), len(labels) - sum(labels))
    return Trials.from_ids(ids[enrol].tolist(), ids[test].tolist(), np.array(labels))


def _groups(manifest: Manifest, match: Sequence[str]) -> np.ndarray:
    """(num_rows,) int: rows with the same number agree in all ``match`` columns."""
    groups = np.zeros(len(manifest), dtype=np.int64)
    for name in match:
        codes = np.unique(manifest.column(name), return_inverse=True)[1]
        groups = np.unique(groups * (codes.max() + 1) + codes, return_inverse=True)[1]
    return groups


def _peers(rows_of: list[np.ndarray], groups: np.ndarray) -> list[np.ndarray]:
    """For every speaker, the other speakers of its group (that of its first utterance)."""
    group_of = np.array([groups[rows[0]] for rows in rows_of])
    members = {group: np.flatnonzero(group_of == group) for group in np.unique(group_of)}
    return [members[group][members[group] != speaker] for speaker, group in enumerate(group_of)]


def _target_pairs(
    rows: np.ndarray,
    sessions: np.ndarray,
    limit: int,
    allow_same_session: bool,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Up to ``limit`` different pairs of one speaker's rows."""
    pairs: dict[tuple[int, int], None] = {}
    if len(rows) < 2:
        return []
    drawn = rows[rng.integers(len(rows), size=(ATTEMPTS_PER_TRIAL * limit, 2))]
    for left, right in drawn[drawn[:, 0] != drawn[:, 1]].tolist():
        usable = allow_same_session or sessions[left] != sessions[right]
        if usable and (right, left) not in pairs:
            pairs[left, right] = None
        if len(pairs) == limit:
            break
    return list(pairs)


def _impostor_pairs(
    rows: np.ndarray,
    others: list[np.ndarray],
    limit: int,
    drawn: Mapping[tuple[int, int], bool],
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Up to ``limit`` different pairs of a row of a speaker and one of others, not drawn before."""
    pairs: dict[tuple[int, int], None] = {}
    if not others:
        return []
    for _ in range(ATTEMPTS_PER_TRIAL * limit):
        if len(pairs) == limit:
            break
        other = others[rng.integers(len(others))]
        left, right = int(rng.choice(rows)), int(rng.choice(other))
        if (right, left) not in drawn:
            pairs[left, right] = None
    return list(pairs)


def _check_classes(labels: list[bool], allow_same_session: bool) -> None:
    way_out = (
        "" if allow_same_session else ", or allow targets of one session: --allow-same-session"
    )
    if not any(labels):
        sessions = "" if allow_same_session else " of different sessions"
        raise InputError(
            f"no speaker has two utterances{sessions}, so there is no target trial. "
            f"Record more{way_out}."
        )
    if all(labels):
        raise InputError(
            "no speaker with target trials agrees with another in the matched columns, "
            f"so there is no non-target trial. Match fewer columns{way_out}."
        )
