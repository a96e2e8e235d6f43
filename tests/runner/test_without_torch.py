"""Which modules stay free of torch: a server and an export import them where there is none."""

import subprocess
import sys

import pytest

FREE = (
    "uniperceiver.runner",
    "uniperceiver.records",
    "uniperceiver.records.exported",
    "uniperceiver.records.regions",
    "uniperceiver.data.media.pixels",
    "uniperceiver.data.media.clips",
    "uniperceiver.data.media.sound_view",
    "uniperceiver.tasks.text",
    "uniperceiver.tokenizers.bpe",
    "uniperceiver.serving.inputs",
    "uniperceiver.serving.asking.labels",
    "uniperceiver.serving.asking.numbers",
    "uniperceiver.serving.values",
    "uniperceiver.serving.locate",
    "uniperceiver.serving.predict.predict",
    "uniperceiver.serving.predict.tables",
    "uniperceiver.data.formats",
)


def test_these_modules_import_no_torch() -> None:
    code = f"import sys\nfor name in {FREE!r}:\n    __import__(name)\n    assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_tensor_is_told_from_an_array() -> None:
    import numpy as np

    torch = pytest.importorskip("torch")
    from uniperceiver.serving.values import is_array, is_tensor

    assert is_tensor(torch.zeros(1))
    assert not is_tensor(np.zeros(1))
    assert is_array(torch.zeros(1))
    assert is_array(np.zeros(1))
    assert not is_array([0.0])
