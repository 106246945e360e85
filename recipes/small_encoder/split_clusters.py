"""Give an encoder its unused NetVLAD clusters back: each becomes a half of a used one.

split_clusters.py ENCODER MANIFEST OUT [--take 300]

A cluster whose share of all frames is below ``UNUSED`` adds nothing to an embedding. It is given
centre and assignment of the cluster with the largest share of those that were split least; the
logarithm of their number is taken from the biases of all equal clusters, and each has its part of
the projection, so that embeddings stay as they are (Chen et al., "Net2Net", ICLR 2016, section
2.3). A little noise on the assignment lets training tell the halves apart.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from speakervlad.audio.spans import load_audio
from speakervlad.errors import InputError
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import load_encoder_folder, save_encoder
from speakervlad.models.pooling import NetVLAD
from speakervlad.tables.manifest import load_manifest

UNUSED, NOISE = 0.001, 0.01


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--take", type=int, default=300, help="recordings to find the shares with")
    arguments = parser.parse_args()
    encoder, config = load_encoder_folder(arguments.encoder)
    encoder.eval()
    manifest = load_manifest(arguments.manifest)
    rows = np.random.default_rng(0).permutation(len(manifest))[: arguments.take]
    waveforms = [torch.from_numpy(load_audio(manifest.path(row)))[None] for row in rows.tolist()]
    before, shares = heard(encoder, waveforms)
    sources = split(encoder, shares)
    after, _ = heard(encoder, waveforms)
    cosines = torch.nn.functional.cosine_similarity(before, after)
    print(f"shares {np.round(shares, 4).tolist()}, taken from {sources}")
    print(f"cosine with the embeddings before: {cosines.min():.4f} at least")
    save_encoder(arguments.out, encoder, config, {})


def netvlad(encoder: SpeakerEncoder) -> NetVLAD:
    """Its pooling layer."""
    if not isinstance(encoder.pooling, NetVLAD):
        raise InputError("this encoder has no NetVLAD clusters.")
    return encoder.pooling


@torch.inference_mode()
def heard(
    encoder: SpeakerEncoder, waveforms: list[torch.Tensor]
) -> tuple[torch.Tensor, np.ndarray]:
    """Embeddings (recordings, dim), and the mean share (clusters,) that each has of the frames."""
    embeddings, shares = [], []
    for waveform in waveforms:
        frames, guide = encoder.frames(waveform)
        weights = netvlad(encoder).assign(frames if guide is None else guide)[0]
        embeddings.append(encoder.projection(encoder.pooling(frames, guide))[0])
        shares.append(weights.mean(dim=1)[: netvlad(encoder).num_clusters])
    return torch.stack(embeddings), torch.stack(shares).mean(dim=0).numpy()


@torch.no_grad()
def split(encoder: SpeakerEncoder, shares: np.ndarray) -> dict[int, int]:
    """Change the encoder; the used cluster that each unused one is now a copy of."""
    pooling = netvlad(encoder)
    biases = pooling.assignment.bias
    assert biases is not None
    used = [cluster for cluster in np.argsort(-shares).tolist() if shares[cluster] >= UNUSED]
    unused = [cluster for cluster in range(len(shares)) if cluster not in used]
    sources = {cluster: used[place % len(used)] for place, cluster in enumerate(unused)}
    columns = encoder.projection.linear.weight.unflatten(1, pooling.centers.shape)
    for source in set(sources.values()):
        equal = [source, *(copy for copy, of in sources.items() if of == source)]
        pooling.centers[equal] = pooling.centers[source].clone()
        pooling.assignment.weight[equal] = pooling.assignment.weight[source].clone()
        biases[equal] = biases[source] - np.log(len(equal))
        columns[:, equal] = columns[:, source].clone()[:, None] / len(equal)
    encoder.projection.linear.weight.copy_(columns.flatten(1))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(pooling.assignment.weight.shape, generator=generator)
    pooling.assignment.weight.add_(NOISE * pooling.assignment.weight.std() * noise)
    return sources


if __name__ == "__main__":
    main()
