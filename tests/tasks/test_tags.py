"""Several right classes: the target is spread over them, and tasks with one class do not take them."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import VIEW, tiny_batch, tiny_candidates, tiny_codec, tiny_source, tiny_task
from uniperceiver.data.batch import collate, lacking, prepare, soft_labels
from uniperceiver.records import Batch, Sample
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.task import Task

TAGS = tiny_task("image_tagging")


def samples(*labels: tuple[int, ...]) -> list[Sample]:
    source = tiny_source(TAGS)
    return [replace(source.read(index), label=None, labels=right) for index, right in enumerate(labels)]


def batch_of(task: Task, *labels: tuple[int, ...]) -> Batch:
    made = [prepare(task, sample, VIEW, tiny_codec(), None, numpy_stream(0)) for sample in samples(*labels)]
    return collate(task, made, tiny_codec())


def test_the_target_is_spread_over_the_right_classes() -> None:
    batch = batch_of(TAGS, (0, 2), (1,), ())
    soft_RK = batch.readout.soft_RK
    assert soft_RK is not None
    assert soft_RK[:, :3].tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert soft_labels(batch.readout, len(TAGS.labels)) is soft_RK
    logits_RK = torch.randn(3, len(TAGS.labels), generator=torch.Generator().manual_seed(0))
    (loss,) = TAGS.answer.loss_terms(logits_RK, batch.readout, tiny_candidates(TAGS, batch), 0.0).values()
    log_RK = logits_RK.log_softmax(dim=1)
    assert float(loss) == pytest.approx(-float((log_RK[0, 0] + log_RK[0, 2]) / 2 + log_RK[1, 1]) / 3, rel=1e-6)


def test_one_right_class_is_the_target_of_a_task_with_one() -> None:
    tagged, single = (tiny_batch(name).readout for name in ("image_tagging", "image_classification"))
    assert tagged.soft_RK is not None
    assert tagged.soft_RK.argmax(dim=1).tolist() == single.target_R.tolist()
    assert set(tagged.soft_RK.sum(dim=1).tolist()) == {1.0}


@pytest.mark.parametrize("name", ["image_tagging", "text_tagging"])
def test_no_single_class_is_the_target(name: str) -> None:
    """Also where a sample has one: the shares alone say what is right."""
    task = tiny_task(name)
    samples = [tiny_source(task).read(index) for index in range(3)]
    assert all(sample.label is not None for sample in samples)
    made = [prepare(task, sample, VIEW, tiny_codec(), None, numpy_stream(0)) for sample in samples]
    readout = collate(task, made, tiny_codec()).readout
    assert readout.target_R.tolist() == [-1, -1, -1]
    assert readout.soft_RK is not None
    assert readout.soft_RK.argmax(dim=1).tolist() == [sample.label for sample in samples]


def test_what_a_sample_lacks() -> None:
    both, none = samples((0, 1), ())
    assert lacking(TAGS, both, training=True) is None
    assert lacking(TAGS, none, training=False) is None
    assert lacking(TAGS, none, training=True) == "label; give what has none a class of its own, such as 'none'"
    one_class = tiny_task("image_classification")
    for training in (True, False):
        assert lacking(one_class, both, training=training) == (
            "single label: it has 2, which a task of tags takes (image_tagging, text_tagging)"
        )
