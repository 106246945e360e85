"""Drawing a balanced trial list from a manifest."""

import logging
from collections.abc import Sequence

import numpy as np

from speakervlad.data.manifest import Manifest, ranks_of
from speakervlad.errors import InputError
from speakervlad.evaluation.trials import Trials

logger = logging.getLogger(__name__)

ATTEMPTS_PER_TRIAL = 20


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
    cannot give the answer away; each other speaker is as likely as the next. No pair occurs twice.

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
    pairs: list[tuple[int, int]] = []
    labels: list[bool] = []
    for speaker, rows in enumerate(rows_of):
        rng = np.random.default_rng((seed, speaker))
        targets = _target_pairs(rows, sessions, per_speaker, allow_same_session, rng)
        others = [rows_of[peer] for peer in peers[speaker]]
        impostors = _impostor_pairs(rows, others, len(targets), rng)
        pairs += targets + impostors
        labels += [True] * len(targets) + [False] * len(impostors)
    _check_classes(labels, allow_same_session)
    ids = np.asarray(list(manifest.utterance_ids))
    enrol, test = np.array(pairs).T
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
    rows: np.ndarray, others: list[np.ndarray], limit: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to ``limit`` different pairs of a row of a speaker and a row of another one."""
    pairs: dict[tuple[int, int], None] = {}
    if not others:
        return []
    for _ in range(ATTEMPTS_PER_TRIAL * limit):
        if len(pairs) == limit:
            break
        other = others[rng.integers(len(others))]
        pairs[int(rng.choice(rows)), int(rng.choice(other))] = None
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
