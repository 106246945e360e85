import torch


def test_a_hidden_cell_of_the_spectrogram_holds_its_mean(tiny_encoder, monkeypatch):
    encoder, _ = tiny_encoder()
    waveforms = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    spectrograms = encoder.front_end(waveforms)
    keep = torch.rand(spectrograms.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    seen = []
    describe = encoder.describe
    monkeypatch.setattr(encoder, "describe", lambda shown: seen.append(shown) or describe(shown))
    embeddings = encoder(waveforms, keep)
    for row, spectrogram in enumerate(spectrograms):
        torch.testing.assert_close(seen[0][row][keep[row]], spectrogram[keep[row]])
        hidden = seen[0][row][~keep[row]]
        torch.testing.assert_close(hidden, spectrogram.mean().expand_as(hidden))
    assert not torch.allclose(embeddings, encoder(waveforms), atol=1e-4)
    torch.testing.assert_close(encoder(waveforms, torch.ones_like(keep)), encoder(waveforms))
