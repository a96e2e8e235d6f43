"""The whole path on a CUDA device: train in 16 bit, save, load, ask. Run with `pytest -m gpu`."""

from pathlib import Path

import pytest
import torch

from tests.small_run import small_recipe
from uniperceiver import load
from uniperceiver.runs.prepare import prepare_run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_on_a_gpu(tmp_path: Path, precision: str) -> None:
    recipe = small_recipe(device="cuda", optimiser={"precision": precision})
    prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True).train()
    on_gpu, on_cpu = load(tmp_path / "run", "cuda"), load(tmp_path / "run")
    picture = torch.rand(3, 48, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(on_gpu.encode_image(picture), on_cpu.encode_image(picture), rtol=1e-3, atol=1e-3)
    assert len(on_gpu.caption(picture, beam=2)) == 1
