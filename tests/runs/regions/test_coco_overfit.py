"""Photographs of COCO, of which a small model learns a few by heart: the beginning of `examples/coco_overfit.yaml`."""

from pathlib import Path

import pytest

from tests.shared import DATA, needs_data
from tests.small_run import log_lines, train
from uniperceiver import load
from uniperceiver.config import read_recipe

RECIPE = Path(__file__).parents[3] / "examples" / "coco_overfit.yaml"


@needs_data
def test_a_few_photographs_begin_to_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss falls by a fifth in 25 steps of small pictures; ids with gaps and a crowd come through."""
    monkeypatch.setenv("UNIPERCEIVER_DATA", str(DATA))
    small = {"steps": 25, "tasks.things.size": 64, "log.every": 1, "optimiser.warmup": 5, "data.workers": 0}
    recipe = read_recipe(RECIPE, small)
    run = train(tmp_path / "run", recipe, base=RECIPE.parent)
    (data,) = run.objective.tasks
    pictures = [data.sources["train"].read(index) for index in range(len(data.sources["train"]))]
    assert (len(pictures), len(data.task.labels)) == (8, 80)
    assert sum(int(sample.crowd.sum()) for sample in pictures if sample.crowd is not None) == 1
    assert any(sample.masks is not None and sample.masks[0] is not None for sample in pictures)
    losses = [line["things/loss"] for line in log_lines(tmp_path / "run", "train")]
    assert len(losses) == 25
    assert sum(losses[-4:]) / 4 < 0.8 * losses[0]
    (answer,) = load(tmp_path / "run").detect(DATA / "coco_open" / "train" / "000000121647.jpg", least=0.0)
    ids = data.sources["train"].whole.category_ids  # type: ignore[attr-defined]
    assert max(ids.values()) == 90
    entries = answer.as_coco(1, dict(zip(answer.names, ids.values(), strict=True)))
    assert len(entries) == 100
    assert {entry["category_id"] for entry in entries} <= set(ids.values())
