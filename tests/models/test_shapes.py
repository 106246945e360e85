"""Every shape that the models' signatures promise, checked by beartype at run time.

In a process of its own: the import hook must come before the models, and ``torch.compile`` and
``torch.export``, which other tests use, cannot trace through its checks.
"""

import subprocess
import sys

SCRIPT = """
import dataclasses
from jaxtyping import install_import_hook
install_import_hook("speakervlad.models", "beartype.beartype")
import pytest, torch
from speakervlad.config import *
from speakervlad.schema import Part
from speakervlad.models.folder import build_classifier, build_encoder
from speakervlad.models.encoder import SpeakerClassifier

narrow = EncoderConfig(trunk=Part("thin_resnet34", width=0.125), descriptor_dim=16, embedding_dim=8)
changes = (
    {},
    {"trunk": Part("wide_resnet34", width=0.125)},
    {"trunk": Part("strided_thin_resnet34", width=0.125)},
    {"trunk": Part("ecapa_tdnn", channels=16, out_channels=24, squeeze_dim=4)},
    {"trunk": Part("campplus", layers=(1, 2), width=0.25)},
    {"pooling": Part("attentive_statistics", context=True)},
    {"pooling": Part("attentive_statistics", per_channel=False)},
    {"pooling": Part("supervlad")},
    {"pooling": Part("netvlad", num_clusters=8, assignment="descriptors", num_ghosts=0)},
    {"descriptor_dim": 0, "pooling": Part("average")},
    {"front_end": Part("log_mel", num_mels=40, normalise="time_mean"),
     "pooling": Part("statistics")},
    {"front_end": Part("kaldi_fbank")},
    {"front_end": Part("speechbrain_fbank")},
)
waveforms, speakers = torch.randn(2, 8000), torch.tensor([3, 1])
for change in changes:
    encoder = build_encoder(dataclasses.replace(narrow, **change))
    for kind in ("softmax", "am_softmax", "aam_softmax"):
        model = SpeakerClassifier(encoder, build_classifier(Part(kind), 8, 5))
        model.train()(waveforms, speakers).value.backward()
        model.eval()(waveforms, speakers)
    with pytest.raises(Exception, match="Type-check error"):
        encoder(waveforms[0])
print("all shapes hold")
"""


def test_signatures_keep_their_promises():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout == "all shapes hold\n", done.stderr[-3000:]
