"""The loss of a batch: which candidates, which randomness, and what is reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks.golden.cases import batch_of, convert_folder, load_case
from benchmarks.parts import flat
from tests.shared import GOLDEN, needs_golden
from tests.small_run import TASKS, log_lines, same_tensors, small_recipe, train
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.records import Batch, Readout
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tasks.ask import ask
from uniperceiver.tasks.candidates import Candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.training.loop import Run
from uniperceiver.training.step import StepReport, train_step
from uniperceiver.training.window import Window


def prepared(folder: Path, task: str, **changes: Any) -> tuple[Run, Batch, Plan]:
    """A run of one task with its first batch."""
    run = prepare_run(small_recipe((task,), **changes), folder, folder / "run")
    plan, batch, _ = BatchMaker(run.mixture)[run.mixture.plans(0, [0])[0]]
    assert batch is not None
    return run, batch, plan


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_is_a_function_of_the_plan(tmp_path: Path, task: str) -> None:
    run, batch, plan = prepared(tmp_path, task, **{f"tasks__{task}__loss_weight": 0.25})
    found = run.objective(batch, plan)
    one, weight = found.terms, found.factor
    torch.manual_seed(99)  # global randomness is not looked at
    other = run.objective(batch, plan).terms
    assert weight == 0.25
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert set(one) == ({"to_candidate", "to_input"} if "retrieval" in task else {"nll"})
    later = run.objective(batch, replace(plan, step=1)).terms
    assert any(not torch.equal(one[name], later[name]) for name in one)  # DropPath is drawn anew


def test_it_holds_the_weights_of_the_run_under_their_names(tmp_path: Path) -> None:
    run, _, _ = prepared(tmp_path, "colours")
    assert run.objective.model is run.state.model
    assert [name for name, _ in run.objective.named_parameters()] == [
        f"model.{name}" for name, _ in run.state.model.named_parameters()
    ]


def test_what_is_measured_holds_nothing_random(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "colours", moe__condition="token", moe__balance__switch=0.5)
    quiet = [run.objective(batch, replace(plan, step=step), random=False) for step in (0, 1)]
    assert torch.equal(quiet[0].loss, quiet[1].loss)
    assert not quiet[0].balance
    assert not torch.equal(run.objective(batch, plan).loss, quiet[0].loss)


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """A process group of this process alone."""
    store = distributed.FileStore(str(folder / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("condition", ["shared", "attribute", "token", "task_specific"])
def test_a_wrapper_for_many_processes_goes_around_it(tmp_path: Path, condition: str) -> None:
    """DDP finds all parameters in the terms, also where a batch leaves some out, and changes no bit of a step."""
    recipe = small_recipe(("colours", "words"), moe__condition=condition, optimiser__lr=0.01, optimiser__warmup=0)
    plain, wrapped = (prepare_run(recipe, tmp_path, tmp_path / name) for name in ("plain", "wrapped"))
    with one_process(tmp_path):
        module = DistributedDataParallel(wrapped.objective, find_unused_parameters=True)
        for step in range(3):
            reports = []
            for run, objective in ((plain, plain.objective), (wrapped, module)):
                (plan,) = run.mixture.plans(step, run.state.consumed or [0, 0])[:1]
                plan, batch, _ = BatchMaker(run.mixture)[plan]
                assert batch is not None
                reports.append(train_step(run.state, [(plan, batch)], objective, recipe.optimiser, 1.0))
            assert reports[0].grad_norm == reports[1].grad_norm
            assert reports[0].losses == reports[1].losses
            gradients = [
                {name: each.grad for name, each in run.state.model.named_parameters() if each.grad is not None}
                for run in (plain, wrapped)
            ]
            assert same_tensors(*gradients)
            assert len(gradients[0]) < len(list(plain.state.model.parameters()))  # the other temperatures
    assert same_tensors(plain.state.model.state_dict(), wrapped.state.model.state_dict())


@pytest.mark.parametrize("bucket_view", [False, True])
@pytest.mark.parametrize("method", ["pcgrad", "own_moments"])
def test_gradients_of_tasks_are_those_that_a_wrapper_reduced(tmp_path: Path, method: str, bucket_view: bool) -> None:
    """Where DDP reduces after each backward pass, tasks are kept apart and combined as without it, bit for bit."""
    changes = {"balance__method": method, "sampling__tasks_per_step": 4, "moe__condition": "task_specific"}
    recipe = small_recipe(("colours", "words"), **changes)
    plain, wrapped = (prepare_run(recipe, tmp_path, tmp_path / name) for name in ("plain", "wrapped"))
    drawn = set()
    with one_process(tmp_path):
        module = DistributedDataParallel(
            wrapped.objective, find_unused_parameters=True, gradient_as_bucket_view=bucket_view
        )
        for step in range(4):
            norms = []
            for run, objective in ((plain, plain.objective), (wrapped, module)):
                made = [BatchMaker(run.mixture)[plan] for plan in run.mixture.plans(step, [0, 0])]
                drawn |= {len({plan.index for plan, _, _ in made})}
                work = [(plan, batch) for plan, batch, _ in made if batch is not None]
                norms.append(train_step(run.state, work, objective, recipe.optimiser, 0.25).grad_norm)
            assert norms[0] == norms[1]
    assert drawn == {1, 2}  # tasks
    assert same_tensors(plain.state.model.state_dict(), wrapped.state.model.state_dict())


@pytest.mark.parametrize("task", ["colours", "motions", "relations", "words", "captions"])
@pytest.mark.parametrize("condition", ["shared", "attribute", "token"])
def test_a_batch_in_two_parts_is_the_batch(tmp_path: Path, task: str, condition: str) -> None:
    """As two processes would make it: the same noise, and losses that add up, weighted by known answers."""
    changes = {"moe__condition": condition, f"tasks__{task}__batch": 5, "model__drop_path": 0.3}
    if task == "captions":  # queries stand behind the padding of the words, so their noise depends on the longest text
        changes["moe__noise"] = 0.0
    run, batch, plan = prepared(tmp_path, task, **changes)
    whole, losses, answers = run.objective(batch, plan), [], []
    known = int((batch.readout.target_R >= 0).sum())
    for places in ((0, 3), (1, 2, 4)):
        part_plan, part, _ = BatchMaker(run.mixture)[replace(plan, places=places)]
        assert part is not None
        made = run.objective(part, part_plan)
        answers.append(int((part.readout.target_R >= 0).sum()))
        losses.append(float(made.loss.detach()))
        for decision, of_whole in zip(made.decisions, whole.decisions, strict=True):
            if decision.noise_TE is None or decision.segments[0].facts.side == "candidate":
                continue
            assert of_whole.noise_TE is not None
            noise_BNE, expected_BNE = (
                noise_TE.unflatten(0, (size, -1))
                for noise_TE, size in ((decision.noise_TE, len(places)), (of_whole.noise_TE, 5))
            )
            assert torch.equal(noise_BNE, expected_BNE[list(places), : noise_BNE.shape[1]])
    assert sum(answers) == known
    mean = sum(count * loss for count, loss in zip(answers, losses, strict=True)) / known
    assert mean == pytest.approx(float(whole.loss.detach()), abs=1e-6)


def test_one_of_several_label_texts_is_drawn(tmp_path: Path) -> None:
    labels = {"red": ["red", "a red thing", "something red"]}
    run, batch, plan = prepared(tmp_path, "colours", tasks__colours__labels=labels)
    lengths = set()
    for step in range(12):
        candidates = run.objective.candidates(batch, replace(plan, step=step))
        ids_KN = flat(candidates.sequences).ids_BN
        assert ids_KN is not None
        assert candidates.owner_K is None
        assert len(ids_KN) == len(run.objective.tasks[0].task.labels)
        lengths.add(ids_KN.shape[1])
    assert len(lengths) > 1


def test_sampled_candidates_hold_the_targets(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "words", candidates__sample=5)
    candidates = run.objective.candidates(batch, plan)
    ids_KN, target_R = flat(candidates.sequences).ids_BN, candidates.target_R
    assert ids_KN is not None
    assert target_R is not None
    assert len(ids_KN) <= 5 + len(batch.readout.target_R.unique())
    assert torch.equal(ids_KN[target_R, 0], batch.readout.target_R)


def test_what_is_reported_is_over_the_whole_vocabulary(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "words", candidates__sample=5, model__drop_path=0.0)
    whole, batch_again, _ = prepared(tmp_path / "whole", "words", model__drop_path=0.0)
    assert torch.equal(batch.readout.target_R, batch_again.readout.target_R)
    expected = whole.objective(batch, plan).terms["nll"]
    reported = run.objective(batch, plan, random=False, whole_vocabulary=True)
    torch.testing.assert_close(reported.loss, expected)
    sampled = run.objective(batch, plan).terms["nll"]
    assert abs(float((sampled - expected).detach())) > 1e-4


def test_the_log_holds_the_whole_vocabularys_loss(tmp_path: Path) -> None:
    # At the very first step all words are about equally likely: log(280) of all, about log(30) of a sample.
    train(tmp_path / "run", small_recipe(("words",), steps=1, candidates__sample=5))
    (line,) = log_lines(tmp_path / "run", "train")
    assert line["words/loss"] == pytest.approx(5.6, abs=0.5)


def test_precision_is_that_of_the_recipe(tmp_path: Path) -> None:
    plain, batch, plan = prepared(tmp_path, "colours")
    half, _, _ = prepared(tmp_path / "half", "colours", optimiser__precision="bfloat16")
    one = plain.objective(batch, plan).terms["nll"]
    other = half.objective(batch, plan).terms["nll"]
    assert other.dtype == torch.float32
    assert 0 < abs(float((one - other).detach())) < 0.1


@pytest.mark.parametrize(("able", "type_"), [(True, torch.bfloat16), (False, None)])
def test_the_recipe_may_leave_precision_to_the_machine(
    able: bool, type_: torch.dtype | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniperceiver.runs.training.has_bfloat16", lambda device: able)
    run, _, _ = prepared(tmp_path, "colours", optimiser__precision="auto")
    assert run.objective.autocast == type_
    plain, _, _ = prepared(tmp_path / "plain", "colours")
    assert plain.objective.autocast is None


def test_label_smoothing_of_a_task(tmp_path: Path) -> None:
    plain, batch, plan = prepared(tmp_path, "colours")
    smooth, _, _ = prepared(tmp_path / "smooth", "colours", tasks__colours__label_smoothing=0.5)
    losses = [float(run.objective(batch, plan).terms["nll"].detach()) for run in (plain, smooth)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("task", ["colours", "words", "captions", "retrieval"])
def test_the_loss_may_include_the_accuracy_as_in_the_original(task: str, tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, task)
    plain = run.objective(batch, plan).terms
    run.objective.accuracy_in_loss = True
    found = run.objective(batch, plan).terms
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
        assert [float(each) for each in task.answer.accuracies(logits_RK, batch.readout, candidates).values()] == theirs


def test_mixed_labels_have_no_accuracy() -> None:
    readout = Readout(segment=0, row_R=torch.tensor([0]), position_R=torch.tensor([0]), target_R=torch.tensor([-1]),
                      soft_RK=torch.tensor([[0.4, 0.6]]), summary=True)  # fmt: skip
    candidates = Candidates(
        sequences=text_sequences([[1], [2]], CATALOGUE["image_classification"].facts("candidate"), 3, 4)
    )
    assert CATALOGUE["image_classification"].answer.accuracies(torch.ones(1, 2), readout, candidates) == {}


def test_batches_of_a_step_draw_other_noise(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "colours", model__drop_path=0.5)
    first, second = (run.objective(batch, replace(plan, place=place)).loss for place in (0, 1))
    assert not torch.equal(first, second)


def test_the_loss_that_is_logged_of_sampled_candidates_holds_nothing_random(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "words", model__drop_path=0.5, candidates__sample=10)
    window = Window(run.objective)
    report = StepReport()
    report.losses["words"].append(torch.tensor(7.0))
    window.add(report, [(plan, batch)])
    values = window.take()
    exact = run.objective(batch, plan, random=False, whole_vocabulary=True).loss
    assert (values["words/loss"], values["words/sampled_loss"]) == (float(exact.detach()), 7.0)


def test_batches_of_a_step_have_candidates_of_their_own(tmp_path: Path) -> None:
    labels = {name: [f"{name} {number}" for number in range(30)] for name in ("red", "green", "blue")}
    for task, changes in (("colours", {"tasks__colours__labels": labels}), ("words", {"candidates__sample": 30})):
        run, batch, plan = prepared(tmp_path / task, task, **changes)
        drawn = [
            flat(run.objective.candidates(batch, replace(plan, step=step, place=place)).sequences).ids_BN.tolist()
            for step, place in ((0, 0), (0, 1), (0, 2), (1, 0))
        ]
        assert all(drawn.count(ids) == 1 for ids in drawn), task


def test_losses_that_balance_experts_are_logged_apart(tmp_path: Path) -> None:
    run, batch, plan = prepared(tmp_path, "colours")
    window = Window(run.objective)
    for loss, balance in ((1.0, 0.25), (3.0, 0.75)):
        report = StepReport(grad_norm=loss)
        report.losses["colours"].append(torch.tensor(loss))
        report.balance["colours"].append(torch.tensor(balance))
        window.add(report, [(plan, batch)])
    skipped = StepReport(skipped="gradient", grad_norm=float("inf"))
    skipped.losses["colours"].append(torch.tensor(float("nan")))
    window.add(skipped, [(plan, batch)])
    values = window.take()
    assert {name: values[name] for name in ("colours/loss", "colours/balance_loss", "grad_norm")} == {
        "colours/loss": 2.0,
        "colours/balance_loss": 0.5,
        "grad_norm": 2.0,
    }
    assert "colours/loss" not in window.take()


def test_throughput_is_samples_in_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, batch, plan = prepared(tmp_path, "colours")
    clock = iter([10.0, 12.0, 12.0])
    monkeypatch.setattr("uniperceiver.training.window.time.perf_counter", lambda: next(clock))
    window = Window(run.objective)
    for _ in range(4):
        window.add(StepReport(), [(plan, batch)])
    assert window.take()["samples_per_second"] == 4 * len(batch.ids) / 2.0
