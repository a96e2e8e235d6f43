"""SAMPLES -> LOG-MEL of sounds: what the ear's scale makes of their spectra, in float64 inside.

Shape suffixes: L samples of a sound, F frames, Q frequencies of a spectrum, M bands.
"""

import functools

import numpy as np

FLOOR = 1e-6  # of what the logarithm is taken of
_LOWEST = 20.0  # Hz


def log_mel(samples_L: np.ndarray, rate: int, hop_ms: float, mels: int) -> np.ndarray:
    """The logarithm of the power in bands of the mel scale, (F, M) float32.

    Frame f covers two hops of samples from f hops on, in a periodic Hann window, with zeros behind the end; so there is
    a frame for each hop. The bands are triangles of height 1 whose corners lie equally far from each other on the scale
    1127 ln(1 + Hz / 700), from 20 Hz to half the rate. Equal to librosa's (htk=True, norm=None) in float64.

    Args:
        samples_L: (L,), full scale 1.
        rate: samples a second.
        hop_ms: milliseconds from frame to frame.
        mels: M, how many bands.
    """
    hop = hop_samples(rate, hop_ms)
    frames = -(-len(samples_L) // hop)
    padded_L = np.zeros((frames + 1) * hop)
    padded_L[: len(samples_L)] = samples_L
    size = _spectrum(hop)
    windows_FL = np.lib.stride_tricks.sliding_window_view(padded_L, 2 * hop)[::hop] * np.hanning(2 * hop + 1)[:-1]
    spectrum_FQ = np.fft.rfft(windows_FL, n=size)
    power_FQ = spectrum_FQ.real**2 + spectrum_FQ.imag**2
    band_FM: np.ndarray = np.log(np.maximum(power_FQ @ mel_bands(rate, size, mels), FLOOR))
    return band_FM.astype(np.float32)


def hop_samples(rate: int, hop_ms: float) -> int:
    """How many samples a hop has."""
    return max(1, round(hop_ms * rate / 1000))


def most_mels(rate: int, hop_ms: float) -> int:
    """The largest number of bands, up to 512, of which none is so narrow that no frequency of the spectrum is in it."""
    size = _spectrum(hop_samples(rate, hop_ms))
    return max((mels for mels in range(1, 513) if _bands(rate, size, mels).any(axis=0).all()), default=0)


@functools.cache
def mel_bands(rate: int, size: int, mels: int) -> np.ndarray:
    """How much each frequency of a spectrum counts in each band, (Q, M) float64; not to be changed.

    Args:
        size: samples that the spectrum is made of; Q is half of them and one.
    """
    band_QM = _bands(rate, size, mels)
    band_QM.flags.writeable = False
    return band_QM


def _bands(rate: int, size: int, mels: int) -> np.ndarray:
    lowest, highest = (1127 * np.log1p(np.array([_LOWEST, rate / 2]) / 700)).tolist()
    corner_hz = 700 * np.expm1(np.linspace(lowest, highest, mels + 2) / 1127)
    frequency_Q1 = np.linspace(0, rate / 2, size // 2 + 1)[:, None]
    rising_QM = (frequency_Q1 - corner_hz[:-2]) / np.diff(corner_hz)[:-1]
    falling_QM = (corner_hz[2:] - frequency_Q1) / np.diff(corner_hz)[1:]
    band_QM: np.ndarray = np.maximum(0, np.minimum(rising_QM, falling_QM))
    return band_QM


def _spectrum(hop: int) -> int:
    """The power of two of samples that a spectrum is made of."""
    return 1 << (2 * hop - 1).bit_length()
