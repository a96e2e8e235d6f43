"""What merging takes: rows and parameters of each task and of all together, and those that the paper counts."""

from typing import Any

import pytest

from tests.merging import NAMES, needs_of, routed_and_merged
from tests.moe_cases import moe_of
from tests.tasks.test_catalogue import EXPECTED as OF_THE_ORIGINAL
from tests.tiny import tiny_architecture
from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.model.merge import parameters_of, planned_architecture
from uniperceiver.runs.architecture import architecture
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES


def test_sizes_of_each_task_alone_are_those_of_a_model_for_it() -> None:
    _, together = routed_and_merged(condition="attribute")
    assert together.routed.rows == 4
    assert together.alone.keys() == set(NAMES)
    assert (together.alone["image_captioning"].rows, together.alone["image_classification"].rows) == (3, 2)
    for name in ("image_captioning", "text_classification"):
        _, alone = routed_and_merged([name], condition="attribute")
        assert together.alone[name] == alone.together == alone.alone[name]
        assert alone.together.parameters == sum(each.numel() for each in alone.model.parameters())
    assert together.together.rows == 18
    assert together.together.parameters > together.routed.parameters > together.alone["vqa"].parameters


@pytest.mark.parametrize(("size", "dense", "merged"), [("base", 124, 167), ("large", 354, 505)])
def test_the_papers_sizes(size: Any, dense: int, merged: int) -> None:
    """Uni-Perceiver-MoE, Table 8: every other layer, 8 experts, the two rows of image-text retrieval."""
    config = ModelConfig(size=size, vocabulary=49411)
    layers = architecture(config, MoEConfig(), tasks=1, vocabulary=49411, end=0, answer=1)
    settings = MoEConfig(condition="attribute", layout="release", layers=2)
    routed = architecture(config, settings, tasks=8, vocabulary=49411, end=0, answer=1)
    plan = planned_architecture(routed, {"r": CATALOGUE["image_text_retrieval"].segments(3)})
    assert plan.merged is not None
    assert plan.merged.rows == 2
    before, after = parameters_of(layers, TEMPERATURES), parameters_of(plan, TEMPERATURES)
    assert after - before == layers.layers // 2 * (12 * layers.width**2 + 9 * layers.width)
    assert before / 1e6 == pytest.approx(dense, abs=1.5)
    assert after / 1e6 == pytest.approx(merged, abs=1.5)


@pytest.mark.parametrize(("layout", "rows"), [("paper", 7), ("release", 6)])
def test_rows_of_all_tasks_of_the_original(layout: Any, rows: int) -> None:
    """The original's table has six rows; the paper's bits also tell words of captions from words of texts."""
    arch = tiny_architecture(moe=moe_of("attribute", layout=layout))
    merged = planned_architecture(arch, needs_of(list(OF_THE_ORIGINAL))).merged
    assert merged is not None
    assert merged.rows == len(merged.codes) == rows
