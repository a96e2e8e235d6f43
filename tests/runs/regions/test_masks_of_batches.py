"""Which masks are made for a batch: of all layers where they are learnt or measured, else what tokens are made of."""

from typing import Any

import pytest
import torch

from tests.regions_run import region_values
from uniperceiver import Recipe
from uniperceiver.data.batch import collate, prepare
from uniperceiver.records import Batch
from uniperceiver.records.regions import ProposalLayer, Regions
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.strict import parse
from uniperceiver.tasks.ask import answer, answer_among


@pytest.fixture(scope="module")
def objective(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That of a run with boxes, masks and captions, whose model makes masks."""
    folder = tmp_path_factory.mktemp("masks")
    values = region_values(("boxes", "shapes", "captions"), steps=1, model__regions__denoise=4)
    return prepare_run(parse(Recipe, values, "recipe"), folder, folder / "run", quiet=True).objective


def batch_of(objective: Any, index: int) -> Batch:
    data = objective.tasks[index]
    samples = [data.sources["train"].read(number) for number in range(3)]
    items = [
        prepare(data.task, sample, data.preprocess, objective.codec, data.config.augment, numpy_stream(0, sample.id))
        for sample in samples
    ]
    return collate(data.task, items, objective.codec, index)


def masks_of(layers: tuple[ProposalLayer, ...]) -> list[bool]:
    return [layer.mask_BQHW is not None for layer in layers]


@pytest.mark.parametrize(("index", "expected"), [(0, [False, False, True]), (1, [False, True, True])])
def test_inner_masks_are_made_for_tasks_of_masks_alone(objective: Any, index: int, expected: list[bool]) -> None:
    task, batch = objective.tasks[index].task, batch_of(objective, index)
    candidates = task.answer.all_candidates(task, objective.codec, index)
    regions = answer(objective.model, task, batch, candidates, torch_stream(0)).regions
    assert isinstance(regions, Regions)
    assert masks_of(regions.layers) == expected
    c_KD = torch.randn(7, 16, generator=torch_stream(1))
    measured = answer_among(objective.model, task, batch, c_KD)
    assert measured.regions is not None
    assert masks_of(measured.regions.layers) == expected
    asked = answer_among(objective.model, task, batch, c_KD, settle=False)
    assert asked.regions is not None
    assert masks_of(asked.regions.layers) == [False, False, True]
    assert torch.equal(asked.logits_RK, measured.logits_RK)
    assert ("mask" in measured.terms) == (index == 1)
    assert asked.terms == {}
