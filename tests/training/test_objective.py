"""The loss of a batch: which candidates, which randomness, and what is reported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.golden.cases import batch_of, convert_folder, load_case
from tests.shared import GOLDEN, needs_golden
from tests.small_run import TASKS, log_lines, small_recipe, train
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.records import Batch, Readout
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tasks.ask import ask
from uniperceiver.tasks.candidates import Candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.training.loop import Run
from uniperceiver.training.objective import accuracies


def prepared(folder: Path, task: str, **changes: Any) -> tuple[Run, Batch, Plan]:
    """A run of one task with its first batch."""
    run = prepare_run(small_recipe((task,), **changes), folder, folder / "run")
    plan, batch, _ = BatchMaker(run.mixture)[run.mixture.plans(0, [0])[0]]
    assert batch is not None
    return run, batch, plan


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_is_a_function_of_the_plan(tmp_path: Path, task: str) -> None:
    run, batch, plan = prepared(tmp_path, task, **{f"tasks__{task}__loss_weight": 0.25})
    found = run.objective(run.state.model, batch, plan)
    one, weight = found.terms, found.factor
    torch.manual_seed(99)  # global randomness is not looked at
    other = run.objective(run.state.model, batch, plan).terms
    assert weight == 0.25
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert set(one) == ({"to_candidate", "to_input"} if "retrieval" in task else {"nll"})
    later = run.objective(run.state.model, batch, replace(plan, step=1)).terms
    assert any(not torch.equal(one[name], later[name]) for name in one)  # DropPath is drawn anew


def test_one_of_several_label_texts_is_drawn(tmp_path: Path) -> None:
    labels = {"red": ["red", "a red thing", "something red"]}
    run, batch, plan = prepared(tmp_path, "colours", tasks__colours__labels=labels)
    lengths = set()
    for step in range(12):
        candidates = run.objective.candidates(batch, replace(plan, step=step))
        ids_KN = candidates.sequences.ids_BN
        assert ids_KN is not None
        assert candidates.owner_K is None
        assert len(ids_KN) == len(run.objective.tasks[0].task.labels)
        lengths.add(ids_KN.shape[1])
    assert len(lengths) > 1


def test_sampled_candidates_hold_the_targets(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "words", candidates__sample=5)
    candidates = run.objective.candidates(batch, plan)
    ids_KN, target_R = candidates.sequences.ids_BN, candidates.target_R
    assert ids_KN is not None
    assert target_R is not None
    assert len(ids_KN) <= 5 + len(batch.readout.target_R.unique())
    assert torch.equal(ids_KN[target_R, 0], batch.readout.target_R)


def test_what_is_reported_is_over_the_whole_vocabulary(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "words", candidates__sample=5, model__drop_path=0.0)
    whole, batch_again, _ = prepared(tmp_path / "whole", "words", model__drop_path=0.0)
    assert torch.equal(batch.readout.target_R, batch_again.readout.target_R)
    expected = whole.objective(whole.state.model, batch, plan).terms["nll"]
    torch.testing.assert_close(run.objective.full(run.state.model, batch, plan), expected.detach())
    sampled = run.objective(run.state.model, batch, plan).terms["nll"]
    assert abs(float((sampled - expected).detach())) > 1e-4


def test_the_log_holds_the_whole_vocabularys_loss(tmp_path: Path) -> None:
    # At the very first step all words are about equally likely: log(280) of all, about log(30) of a sample.
    train(tmp_path / "run", small_recipe(("words",), steps=1, candidates__sample=5))
    (line,) = log_lines(tmp_path / "run", "train")
    assert line["words/loss"] == pytest.approx(5.6, abs=0.5)


def test_precision_is_that_of_the_recipe(tmp_path: Path) -> None:
    plain, batch, plan = prepared(tmp_path, "colours")
    half, _, _ = prepared(tmp_path / "half", "colours", optimiser__precision="bfloat16")
    one = plain.objective(plain.state.model, batch, plan).terms["nll"]
    other = half.objective(half.state.model, batch, plan).terms["nll"]
    assert other.dtype == torch.float32
    assert 0 < abs(float((one - other).detach())) < 0.1


def test_label_smoothing_of_a_task(tmp_path: Path) -> None:
    plain, batch, plan = prepared(tmp_path, "colours")
    smooth, _, _ = prepared(tmp_path / "smooth", "colours", tasks__colours__label_smoothing=0.5)
    losses = [float(run.objective(run.state.model, batch, plan).terms["nll"].detach()) for run in (plain, smooth)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("task", ["colours", "words", "captions", "retrieval"])
def test_the_loss_may_include_the_accuracy_as_in_the_original(task: str, tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, task)
    model, plain = run.state.model, run.objective(run.state.model, batch, plan).terms
    found = replace(run.objective, accuracy_in_loss=True)(model, batch, plan).terms
    more = {name: each for name, each in found.items() if name not in plain}
    assert set(more) == ({"accuracy_to_candidate", "accuracy_to_input"} if task == "retrieval" else {"accuracy"})
    assert all(torch.equal(found[name], each) for name, each in plain.items())
    assert not any(each.requires_grad for each in more.values())


@needs_golden
@pytest.mark.parametrize("folder", ["dense", "moe_odd"])
def test_accuracies_are_those_recorded_of_the_original(folder: str) -> None:
    several = {"image_retrieval_train", "video_retrieval_train", "text_classification_RTE_train", "text_mlm_train"}
    for name in (*several, "video_classification_train", "image_caption_teacher_forced_train"):
        case = load_case(GOLDEN / folder, name)
        task, batch, candidates = batch_of(case)
        with torch.no_grad():
            logits_RK = ask(convert_folder(GOLDEN / folder).model, task, batch, candidates)
        theirs = [value for key, value in case.info["losses"].items() if "Accuracy" in key]
        assert [float(each) for each in accuracies(task, logits_RK, batch.readout, candidates).values()] == theirs


def test_mixed_labels_have_no_accuracy() -> None:
    readout = Readout(segment=0, row_R=torch.tensor([0]), position_R=torch.tensor([0]), target_R=torch.tensor([-1]),
                      soft_RK=torch.tensor([[0.4, 0.6]]), summary=True)  # fmt: skip
    candidates = Candidates(
        sequences=text_sequences([[1], [2]], CATALOGUE["image_classification"].facts("candidate"), 3, 4)
    )
    assert accuracies(CATALOGUE["image_classification"], torch.ones(1, 2), readout, candidates) == {}
