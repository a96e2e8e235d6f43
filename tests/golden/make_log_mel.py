"""Write log_mel.json: what librosa (float64) makes of a made-up sound.

python -m venv /tmp/librosa && /tmp/librosa/bin/pip install librosa==0.11.0
/tmp/librosa/bin/python tests/golden/make_log_mel.py
"""

import json
from pathlib import Path

import librosa  # type: ignore[import-not-found]
import numpy as np

SETTINGS = (
    (16_000, 10, 40),
    (16_000, 32, 24),
    (8_000, 16, 20),
)  # samples a second, milliseconds from frame to frame, bands
FRAMES = 6


def made_up(samples: int) -> np.ndarray:
    """A sound with tones, a glide, silence and clicks, (samples,) float64; the same formula as in the test."""
    n = np.arange(samples)
    x = 0.3 * np.sin(0.1 * n) + 0.1 * np.sin(2.5e-5 * n**2) + 0.05 * ((n * 7919) % 101 - 50) / 50
    return np.where(n % 1000 < 250, 1e-5 * x, x)


def main() -> None:
    """Compute and write the values."""
    values = []
    for rate, hop_ms, mels in SETTINGS:
        hop = hop_ms * rate // 1000
        size = 1 << (2 * hop - 1).bit_length()
        # librosa puts a window into the middle of its spectrum, ours begins with the frame.
        x = np.concatenate([np.zeros((size - 2 * hop) // 2), made_up(FRAMES * hop), np.zeros(size)])
        power = librosa.feature.melspectrogram(
            y=x, sr=rate, n_fft=size, hop_length=hop, win_length=2 * hop, center=False, power=2.0, n_mels=mels,
            fmin=20, fmax=rate / 2, htk=True, norm=None, dtype=np.float64,
        )  # fmt: skip
        values.append(np.log(np.maximum(power, 1e-6)).T[:FRAMES].round(9).tolist())
    made = {"source": f"librosa {librosa.__version__}", "command": "tests/golden/make_log_mel.py", "settings": SETTINGS}
    path = Path(__file__).with_name("log_mel.json")
    path.write_text(json.dumps({**made, "values": values}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
