"""What is said when a run begins."""

import re
from pathlib import Path

import pytest
import torch

from tests.small_run import small_recipe
from uniperceiver.runs.prepare import prepare_run


@pytest.mark.parametrize("quiet", [False, True])
def test_the_first_line_says_what_is_trained_on_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    run = prepare_run(small_recipe(steps=1, optimiser__warmup=0), tmp_path, tmp_path / "run", quiet=quiet)
    run.train()
    said = capsys.readouterr().err.splitlines()
    if quiet:
        assert said == []
        return
    threads = torch.get_num_threads()
    assert re.fullmatch(
        r"training colours \(12 samples\), captions \(12 samples\): 0\.\d\d M parameters on cpu, "
        rf"{threads} threads, float32, 1 steps; log: .*/run/log\.jsonl",
        said[0],
    )
    assert said[1].startswith("step 1 of 1: loss ")
