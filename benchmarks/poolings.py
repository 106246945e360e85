"""What every pooling layer is worth on one frozen trunk: trained on the same cached frames.

    python benchmarks/poolings.py conf/default_encoder.yaml LIST.trials ... --dev dev.csv
        --noise noise.csv --out runs/poolings [--seeds 0 1 2] [--rows REGEX]
        [--print] [--plot OUT.svg] [--set KEY=VALUE ...]

Every row is a training run of its own by the config, with the row's pooling. A row that is *begun*
starts where the trunk's own pooling is (``init_projection``); one that stands *alone* starts with a
random projection. Results go to ``OUT/results.json`` one by one; what is there is not done again.
"""

import argparse
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from conditions import Lists, Material, heard

from speakervlad.config import Config, EncoderConfig, load_config
from speakervlad.figures import COLOURS, new_figure, save_figure
from speakervlad.files import atomic_path
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import (
    assemble_encoder,
    build_encoder,
    load_encoder_folder,
    save_encoder,
)
from speakervlad.models.pooling import POOLINGS, Frames, NetVLAD, Weights
from speakervlad.schema import Part
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.training.distributed import World
from speakervlad.training.frame_cache import open_cache, start_embeddings, trunk_frames
from speakervlad.training.frame_maker import compute_frames, embed_frames, torch_trunk
from speakervlad.training.run import check_config, train

TITLES = {
    "clean": "as recorded",
    "babble": "babble, 5 dB",
    "inside": "2 s of noise inside",
}
KINDS = tuple(TITLES)
BATCH = 256


class HardVLAD(NetVLAD):
    """VLAD: a frame goes to its nearest centre alone, as k-means found it; nothing trains that."""

    def assign(self, guide: Frames) -> Weights:
        nearest = self.assignment(guide.flatten(2)).argmax(dim=1)
        return F.one_hot(nearest, self.num_clusters).transpose(1, 2).to(guide.dtype)


POOLINGS["hard_vlad"] = HardVLAD

OWN = Part("statistics", unbiased=True)
GHOST = Part("ghost_statistics", num_ghosts=2, unbiased=True)
ATTENTIVE = Part("attentive_statistics", unbiased=True)
ONE_CLUSTER = Part("one_cluster_vlad")


def vlad(ghosts: int, kind: str = "netvlad", *, second_order: bool = False) -> Part:
    """Eight clusters, as the layer of the NetVLAD paper."""
    options = {"num_clusters": 8, "assignment": "descriptors", "vector_norm": True}
    return Part(kind, num_ghosts=ghosts, second_order=second_order, **options)


def beside(frames: Part, descriptors: Part) -> Part:
    """One layer over the trunk's frames, one over descriptors made of them."""
    return Part("side_by_side", frames=frames, descriptors=descriptors)


# The others pool the trunk's own frames.
OF_DESCRIPTORS = ("netvlad", "hard_vlad", "one_cluster_vlad", "side_by_side")


class Row(NamedTuple):
    """A pooling, whether it starts where the trunk's own is, and whether from frames."""

    pooling: Part
    begun: bool = False
    from_frames: bool = True


ALONE = {
    "average": Part("average"),
    "statistics": OWN,
    "attentive statistics": ATTENTIVE,
    "ghost-weighted statistics": GHOST,
    "hard VLAD": vlad(0, "hard_vlad"),
    "1-cluster VLAD, 2 ghosts": ONE_CLUSTER,
    "NetVLAD": vlad(0),
    "GhostVLAD, 1 ghost": vlad(1),
    "GhostVLAD, 2 ghosts": vlad(2),
    "GhostVLAD, 4 ghosts": vlad(4),
    "second-order GhostVLAD, 2 ghosts": vlad(2, second_order=True),
    "statistics and GhostVLAD, 2 ghosts": beside(OWN, vlad(2)),
}
BEGUN = {
    "statistics": OWN,
    "attentive statistics": ATTENTIVE,
    "ghost-weighted statistics": GHOST,
    "statistics and NetVLAD": beside(OWN, vlad(0)),
    "statistics and GhostVLAD, 2 ghosts": beside(OWN, vlad(2)),
    "ghost-weighted statistics and NetVLAD": beside(GHOST, vlad(0)),
    "ghost-weighted statistics and GhostVLAD, 1 ghost": beside(GHOST, vlad(1)),
    "ghost-weighted statistics and GhostVLAD, 2 ghosts": beside(GHOST, vlad(2)),
    "ghost-weighted statistics and GhostVLAD, 4 ghosts": beside(GHOST, vlad(4)),
    "ghost-weighted statistics and second-order GhostVLAD": beside(
        GHOST, vlad(2, second_order=True)
    ),
    "ghost-weighted statistics and hard VLAD": beside(GHOST, vlad(0, "hard_vlad")),
    "ghost-weighted statistics and 1-cluster VLAD": beside(GHOST, ONE_CLUSTER),
}
ITSELF = "the trunk's own, not trained"
ROWS = {
    **{f"begun: {name}": Row(pooling, begun=True) for name, pooling in BEGUN.items()},
    "begun: ghost-weighted statistics, ghosts that start alike": Row(
        GHOST, begun=True, from_frames=False
    ),
    **{f"alone: {name}": Row(pooling) for name, pooling in ALONE.items()},
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--dev", type=Path, required=True, help="manifest of the recordings")
    parser.add_argument("--noise", type=Path, required=True, help="noise, music and speech")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", default="", help="only those that this expression finds")
    parser.add_argument("--set", nargs="+", default=[], help="KEY=VALUE of the config")
    parser.add_argument("--print", action="store_true", help="the table of what is there")
    parser.add_argument("--plot", type=Path, help="an SVG of what is there")
    arguments = parser.parse_args()
    results = Results(arguments.out / "results.json")
    if not arguments.print:
        config = check_config(load_config(arguments.config, arguments.set), 1)
        bench = Bench(config, arguments.out)
        bench.hear(arguments.lists, load_manifest(arguments.dev), Material(arguments.noise))
        bench.open()
        fill(results, bench, arguments.seeds, arguments.rows)
    print(markdown(results.known))
    if arguments.plot is not None:
        draw(results.known, arguments.plot)


def fill(results: "Results", bench: "Bench", seeds: list[int], wanted: str) -> None:
    """Train and judge what is not there yet."""
    if ITSELF not in results.known:
        encoder, _ = load_encoder_folder(bench.start)
        results.add(ITSELF, 0, bench.judge(encoder, bench.mean))
    for seed in seeds:
        for name, row in ROWS.items():
            if re.search(wanted, name) and str(seed) not in results.known.get(name, {}):
                results.add(name, seed, bench.run(row, seed))


class Results:
    """EER in percent by row, seed, condition and list, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, dict[str, dict]] = (
            json.loads(path.read_text("utf-8")) if path.is_file() else {}
        )

    def add(self, name: str, seed: int, found: dict) -> None:
        """Keep one."""
        self.known.setdefault(name, {})[str(seed)] = found
        with atomic_path(self.path) as path:
            path.write_text(json.dumps(self.known, indent=1) + "\n", encoding="utf-8")
        means = {key: round(np.mean(list(by.values())).item(), 2) for key, by in found.items()}
        print(name, seed, means, flush=True)


class Bench:
    """What all rows have in common: the config, the cache, the lists and their frames.

    Args:
        config: of a run that begins at ``init_from``.
        out: folder of everything that is kept.
    """

    lists: Lists
    frames: dict[str, list[np.ndarray]]
    mean: np.ndarray

    def __init__(self, config: Config, out: Path) -> None:
        assert config.init_from is not None
        self.begun, self.out, self.start = config, out, Path(config.init_from)
        teacher = replace(config.teacher, start=False, embeddings=(str(out / "teacher.npz"),))
        self.alone = replace(
            config,
            init_projection=False,
            train=replace(config.train, frozen_norm=False),
            teacher=teacher,
        )
        out.mkdir(parents=True, exist_ok=True)

    def hear(self, paths: list[Path], manifest: Manifest, material: Material) -> None:
        """The lists, and the frames of their recordings under every condition."""
        self.lists = Lists(paths, manifest)
        self.frames = {kind: self._frames(kind, manifest, material) for kind in KINDS}

    def open(self) -> None:
        """The cache, and what the trunk's own head says of every utterance: the teacher."""
        training = load_manifest(self.begun.data.train_manifest)
        cache = open_cache(self.begun, training, World(0, 1, torch.device("cpu")))
        spoken = start_embeddings(cache, self.start)
        self.mean = self.begun.teacher.centre * spoken[cache.kept[0]].mean(axis=0)
        taught = Embeddings(training.utterance_ids.tolist(), spoken)
        save_embeddings(self.alone.teacher.embeddings[0], taught)

    def _frames(self, kind: str, manifest: Manifest, material: Material) -> list[np.ndarray]:
        """Of every recording under a condition, float16 (frames, dim); computed once and kept."""
        path = self.out / f"frames-{kind}.npz"
        if not path.is_file():
            with torch.device("meta"):
                frames = trunk_frames(assemble_encoder(self.begun.encoder))
            trunk = torch_trunk(load_encoder_folder(self.start)[0], "bfloat16")
            found: list[np.ndarray] = []
            for begin in range(0, len(self.lists.rows), BATCH):
                rows = self.lists.rows[begin : begin + BATCH].tolist()
                waveforms = [heard(manifest, row, kind, material) for row in rows]
                found += [f for f in compute_frames(frames, trunk, waveforms) if f is not None]
            ends = np.cumsum([len(each) for each in found])
            with atomic_path(path) as temporary, temporary.open("wb") as opened:
                np.savez(opened, frames=np.concatenate(found), ends=ends)
        with np.load(path, allow_pickle=False) as file:
            return np.split(file["frames"], file["ends"][:-1])

    def run(self, row: Row, seed: int) -> dict[str, dict[str, float]]:
        """Train one row and judge it."""
        base = self.begun if row.begun else self.alone
        folder = self.out / "run"
        shutil.rmtree(folder, ignore_errors=True)
        size = base.encoder.descriptor_dim if row.pooling.kind in OF_DESCRIPTORS else 0
        config = replace(
            base,
            run_dir=str(folder),
            encoder=replace(base.encoder, pooling=row.pooling, descriptor_dim=size),
            train=replace(base.train, seed=seed),
        )
        if not (row.from_frames and _starts_from_frames(config.encoder)):
            config = replace(config, train=replace(config.train, vlad_init_utterances=0))
        if not row.begun:
            config = replace(config, init_from=str(self._fresh(config)))
        encoder, _ = load_encoder_folder(_trained(config))
        found = self.judge(encoder)
        shutil.rmtree(folder)
        return found

    def _fresh(self, config: Config) -> Path:
        """A folder with the trunk and a random head."""
        source, _ = load_encoder_folder(self.start)
        torch.manual_seed(config.train.seed)
        encoder = build_encoder(config.encoder)
        encoder.trunk.load_state_dict(source.trunk.state_dict())
        save_encoder(self.out / "fresh", encoder, config.encoder, {})
        return self.out / "fresh"

    def judge(self, encoder: SpeakerEncoder, mean: np.ndarray | float = 0.0) -> dict:
        """EER in percent by condition of the test side, and list."""
        vectors = {
            kind: np.stack([embed_frames(encoder, each) for each in frames]) - mean
            for kind, frames in self.frames.items()
        }
        return {kind: self.lists.errors(vectors["clean"], each) for kind, each in vectors.items()}


def markdown(known: dict[str, dict[str, dict]]) -> str:
    """Means over lists: the mean over seeds, the smallest and the largest."""
    lines = [f"| | {' | '.join(KINDS)} | seeds |", "|---" * (len(KINDS) + 2) + "|"]
    for name in (ITSELF, *ROWS):
        if name in known:
            cells = [cell(known[name], kind) for kind in KINDS]
            lines.append(f"| {name} | {' | '.join(cells)} | {len(known[name])} |")
    return "\n".join(lines)


def cell(seeds: dict[str, dict], kind: str) -> str:
    """One condition of one row."""
    means = [float(np.mean(list(found[kind].values()))) for found in seeds.values()]
    span = f" ({min(means):.2f}-{max(means):.2f})" if len(means) > 1 else ""
    return f"{np.mean(means):.2f}{span}"


def draw(known: dict[str, dict[str, dict]], path: Path) -> None:
    """Every row and seed as a dot, a panel for every condition; begun and alone apart."""
    names = [name for name in (*reversed(ROWS), ITSELF) if name in known]
    figure = new_figure(10, 0.27 * len(names) + 1.2)
    panels = figure.subplots(1, len(KINDS), sharey=True)
    for kind, axes in zip(KINDS, panels, strict=True):
        for place, name in enumerate(names):
            means = [np.mean(list(found[kind].values())) for found in known[name].values()]
            colour = "0.3" if name == ITSELF else COLOURS[1 if "begun" in name else 0]
            axes.plot(means, [place] * len(means), "o", ms=4, color=colour, alpha=0.7)
            axes.plot(np.mean(means), place, "|", ms=11, mew=2, color=colour)
        axes.set(title=TITLES[kind], xlabel="EER, %", ylim=(-0.6, len(names) - 0.4))
        itself = np.mean(list(known[ITSELF]["0"][kind].values()))
        axes.axvline(itself, color="0.3", lw=0.8, ls=":")
        axes.grid(axis="y", color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    save_figure(figure, path)


def _trained(config: Config) -> Path:
    folder = train(config)
    if folder is None:
        raise SystemExit("stopped")
    return folder


def _starts_from_frames(encoder: EncoderConfig) -> bool:
    with torch.device("meta"):
        return assemble_encoder(encoder).pooling.starts_from_frames


if __name__ == "__main__":
    main()
