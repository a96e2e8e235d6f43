"""Log-mel: equal to librosa's, a frame for each hop, bands that no frequency misses."""

import json
from pathlib import Path

import numpy as np
import pytest

from uniperceiver.data.media.mel import FLOOR, hop_samples, log_mel, mel_bands, most_mels

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "log_mel.json").read_text())


def made_up(samples: int) -> np.ndarray:
    """The sound of the recorded values."""
    n = np.arange(samples)
    x = 0.3 * np.sin(0.1 * n) + 0.1 * np.sin(2.5e-5 * n**2) + 0.05 * ((n * 7919) % 101 - 50) / 50
    return np.where(n % 1000 < 250, 1e-5 * x, x)


@pytest.mark.parametrize(("setting", "values"), list(zip(GOLDEN["settings"], GOLDEN["values"], strict=True)))
def test_log_mel_is_that_of_librosa(setting: list[int], values: list[list[float]]) -> None:
    rate, hop_ms, mels = setting
    band_FM = log_mel(made_up(len(values) * hop_samples(rate, hop_ms)), rate, hop_ms, mels)
    assert band_FM.dtype == np.float32
    assert band_FM.shape == (len(values), mels)
    np.testing.assert_allclose(band_FM, values, atol=1e-6, rtol=0)


def test_a_frame_for_each_hop_and_zeros_behind_the_end() -> None:
    x_L = made_up(500)
    band_FM = log_mel(x_L, 8000, 16, 8)
    assert len(band_FM) == 4  # of 3.9 hops
    longer_FM = log_mel(np.concatenate([x_L, np.zeros(2 * 128)]), 8000, 16, 8)
    np.testing.assert_array_equal(band_FM, longer_FM[:4])
    assert longer_FM[4:].max() == pytest.approx(np.log(FLOOR))


def test_a_tone_lies_in_its_band() -> None:
    rate, mels = 16_000, 32
    peak_hz_M = np.linspace(0, rate / 2, 513)[mel_bands(rate, 1024, mels).argmax(axis=0)]
    for band in (3, 12, 30):
        tone_L = np.sin(2 * np.pi * peak_hz_M[band] / rate * np.arange(16 * 512))
        assert (log_mel(tone_L, rate, 32, mels)[:-1].argmax(axis=1) == band).all()


def test_as_many_bands_as_the_spectrum_fills() -> None:
    assert (most_mels(16_000, 10), most_mels(16_000, 8)) == (126, 70)
    assert not mel_bands(16_000, 512, 128).any(axis=0).all()
    with pytest.raises(ValueError, match="read-only"):
        mel_bands(16_000, 512, 40)[0, 0] = 1
