"""Every effect is measured for what it claims to do."""

import numpy as np
import pytest
import torch

from speakervlad.training.effects import (
    CODECS,
    RIR_LEAD,
    add_noise,
    change_pitch,
    change_speed,
    interrupt,
    kept,
    respond,
    reverberate,
    scale,
    store,
    telephone,
    transcode,
)
from speakervlad.training.sources import aligned

RATE = 16000


@pytest.fixture
def noise():
    """White noise, (2, 16000)."""
    return 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))


def tone(hertz, samples=RATE):
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(samples) / RATE)[None]


def band_power_db(waveforms, low, high):
    powers = torch.fft.rfft(waveforms * torch.hann_window(waveforms.shape[1])).abs().square()
    hertz = torch.fft.rfftfreq(waveforms.shape[1], 1 / RATE)
    return 10 * powers[:, (hertz >= low) & (hertz < high)].mean(dim=1).log10()


def lag(one, two):
    """Samples by which ``two`` comes later."""
    size = 2 * len(one)
    correlation = np.fft.irfft(np.fft.rfft(two, size) * np.fft.rfft(one, size).conj())
    best = int(correlation.argmax())
    return best if best < len(one) else best - size


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_is_added_at_the_ratio_asked(noise, snr_db):
    clean, other = tone(440), 3 * noise[:1]
    added = add_noise(clean, other, torch.tensor([snr_db])) - clean
    ratio = 10 * torch.log10(clean.square().mean() / added.square().mean())
    assert ratio.item() == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("level_db", [-10.0, 0.0, 10.0])
def test_a_stretch_is_replaced_at_the_level_asked(noise, level_db):
    clean = torch.cat([tone(440), tone(220)])
    spans = torch.tensor([[[3000.0, 4000.0]], [[0.0, 8000.0]]])
    levels = torch.tensor([level_db, 0.0])
    heard = interrupt(clean, noise, spans, levels)
    torch.testing.assert_close(heard[0, :3000], clean[0, :3000])
    torch.testing.assert_close(heard[0, 7000:], clean[0, 7000:])
    inside = heard[0, 3000:7000]
    ratio = 10 * torch.log10(inside.square().mean() / clean[0].square().mean())
    assert ratio.item() == pytest.approx(level_db, abs=0.01)
    assert np.corrcoef(inside, noise[0, 3000:7000])[0, 1] > 0.999
    silent = interrupt(clean, torch.zeros_like(noise), spans, levels)
    assert not silent[1, :8000].any()


def test_silent_noise_and_silent_speech_stay_finite(noise):
    silence = torch.zeros(1, RATE)
    torch.testing.assert_close(add_noise(noise[:1], silence, torch.zeros(1)), noise[:1])
    assert add_noise(silence, noise[:1], torch.zeros(1)).abs().max() < 1e-5


def test_direct_path_stays_in_place_and_an_echo_comes_at_its_delay(noise):
    response = np.zeros(5000, np.float32)
    response[700], response[700 + 1600] = 1.0, 0.5
    rooms = torch.from_numpy(aligned(response, 3000))[None].expand(2, -1)
    wet = reverberate(noise, rooms)
    echo = noise.clone()
    echo[:, 1600:] += 0.5 * noise[:, :-1600]
    echo *= (noise.square().mean(1) / echo.square().mean(1)).sqrt()[:, None]
    assert wet.shape == noise.shape
    torch.testing.assert_close(wet, echo, atol=1e-5, rtol=1e-4)


def test_reverberation_keeps_the_power(noise):
    rooms = torch.randn(2, 4000) * torch.exp(-torch.arange(4000) / 800)
    torch.testing.assert_close(
        reverberate(noise, rooms).square().mean(dim=1), noise.square().mean(dim=1)
    )


def test_response_longer_than_the_crop_is_applied_as_far_as_the_crop_goes(noise):
    short = noise[:, :1000]
    response = np.zeros(9000, np.float32)
    response[0], response[8000] = 1.0, 0.9
    rooms = torch.from_numpy(aligned(response, 9000))[None].expand(2, -1)
    torch.testing.assert_close(reverberate(short, rooms), short, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("peak", [0, 10, RIR_LEAD, 1000])
@pytest.mark.parametrize("length", [100, 2000, 5000])
def test_responses_are_aligned_wherever_their_peak_is(peak, length):
    response = np.linspace(0.01, 0.1, 2000, dtype=np.float32)
    response[peak] = -1.0
    moved = aligned(response, length)
    assert moved.shape == (length,)
    assert np.abs(moved).argmax() == RIR_LEAD
    after = min(length - RIR_LEAD, 2000 - peak)
    np.testing.assert_array_equal(moved[RIR_LEAD:][:after], response[peak:][:after])


def test_telephone_line_passes_its_band_only(noise):
    through = telephone(noise)
    assert through.shape == noise.shape
    loss = band_power_db(noise, 500, 3000) - band_power_db(through, 500, 3000)
    assert loss.abs().max() < 1
    for low, high in ((0, 150), (4200, 8000)):
        assert (band_power_db(through, low, high) < band_power_db(noise, low, high) - 25).all()


def test_telephone_line_leaves_the_quantisation_noise_of_8_bit_mu_law():
    clean = tone(1000)
    difference = telephone(clean) - clean
    middle = slice(2000, -2000)
    ratio = clean[:, middle].square().mean() / difference[:, middle].square().mean()
    assert 30 < 10 * torch.log10(ratio) < 45


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_moves_the_pitch_and_not_the_length(speed):
    played = change_speed(tone(1000, 20000), speed, RATE)
    assert played.shape == (1, RATE)
    spectrum = torch.fft.rfft(played * torch.hann_window(RATE)).abs()
    assert spectrum.argmax().item() == pytest.approx(1000 * speed, abs=1)


def test_gain_is_in_decibels_and_clips_at_full_scale(noise):
    gains = torch.tensor([-6.0, 60.0])
    louder = scale(noise, gains)
    ratio = louder[0].square().mean() / noise[0].square().mean()
    assert 10 * torch.log10(ratio) == pytest.approx(-6.0, abs=1e-3)
    assert louder[1].abs().max() == 1


def test_spans_hide_what_they_say():
    spans = torch.tensor([[[1, 2], [4, 0]], [[0, 1], [4, 1]]])
    expected = [[True, False, False, True, True], [False, True, True, True, False]]
    assert kept(spans, 5).tolist() == expected


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_keep_length_and_place_and_lose_something(codec, make_waveform):
    waveform = make_waveform(1.0)
    coded = transcode(waveform, codec, 16000)
    assert coded.shape == waveform.shape
    assert coded.dtype == np.float32
    assert abs(lag(waveform, coded)) <= 4
    error = np.sum(np.square(coded - waveform)) / np.sum(np.square(waveform))
    assert 1e-4 < error < 0.5


def test_fewer_bits_lose_more(make_waveform):
    waveform = make_waveform(1.0)
    errors = [
        np.square(transcode(waveform, "mp3", rate) - waveform).sum() for rate in (8000, 64000)
    ]
    assert errors[0] > errors[1]


def test_a_response_has_its_gains_and_the_old_level(noise):
    gains = torch.zeros(2, 32)
    gains[1, 16:] = -20.0  # from half of the mel scale, 1770 Hz
    heard = respond(noise, gains)
    torch.testing.assert_close(heard[0], noise[0], atol=1e-5, rtol=0)
    assert heard[1].square().mean().item() == pytest.approx(noise[1].square().mean().item())
    high = (band_power_db(heard, 3000, 7500) - band_power_db(noise, 3000, 7500))[1]
    low = (band_power_db(heard, 200, 1500) - band_power_db(noise, 200, 1500))[1]
    assert (high - low).item() == pytest.approx(-20, abs=0.2)


def test_a_stored_waveform_has_its_peak_and_sixteen_bits(noise):
    stored = store(noise, torch.tensor([-60.0, 0.0]))
    peaks = 20 * stored.abs().amax(dim=1).log10()
    torch.testing.assert_close(peaks, torch.tensor([-60.0, 0.0]), atol=0.2, rtol=0)
    levels = stored * 32768
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert len(levels[0].unique()) < 70
    assert not store(torch.zeros(1, RATE), torch.zeros(1)).any()


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_pitch_and_tempo_change_and_formants_stay(factor):
    """A buzz of 125 Hz through one resonance at 1500 Hz, which bursts once."""
    time = np.arange(2 * RATE) / RATE
    harmonics = np.arange(1, 50) * 125.0
    gains = 1 / (1 + ((harmonics - 1500) / 200) ** 2)
    buzz = (gains[:, None] * np.cos(2 * np.pi * harmonics[:, None] * time)).sum(axis=0)
    buzz[RATE // 2 : RATE // 2 + 160] *= 5
    changed = change_pitch(buzz.astype(np.float32) / 100, factor, RATE)
    assert changed.shape == (RATE,)
    assert int(np.abs(changed).argmax()) == pytest.approx(RATE / 2 / factor, abs=400)
    power = np.abs(np.fft.rfft(changed * np.hanning(RATE))) ** 2
    harmonic = np.argsort(power)[-3:] / (125 * factor)
    np.testing.assert_allclose(harmonic, harmonic.round(), atol=0.02)
    centre = (np.arange(len(power)) * power).sum() / power.sum()
    assert abs(centre - 1500) < 0.4 * 1500 * abs(factor - 1)


def test_a_pitch_factor_of_one_changes_nothing():
    rng = np.random.default_rng(0)
    waveform = np.convolve(0.1 * rng.standard_normal(RATE), np.ones(4), "same").astype(np.float32)
    np.testing.assert_allclose(change_pitch(waveform, 1.0, RATE), waveform, atol=1e-5)
