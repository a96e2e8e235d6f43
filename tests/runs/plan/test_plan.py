"""A plan: devices by name, formulas of what is held and sent, advice, and a step with a group that is not there."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import small_recipe
from uniperceiver import Recipe, UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import empty_model
from uniperceiver.moe.settings import MoE
from uniperceiver.runs.plan.advice import advice, assumptions, misfit
from uniperceiver.runs.plan.counts import counts_of, held, sent, sent_for_candidates, shards_of
from uniperceiver.runs.plan.devices import DEVICES, amount, read_devices
from uniperceiver.runs.plan.measure import BatchCost, PassCost
from uniperceiver.runs.plan.page import as_json, as_text
from uniperceiver.runs.plan.plan import StepPlan, load_of, plan, planned_run
from uniperceiver.runs.plan.simulate import simulated
from uniperceiver.strict import to_json
from uniperceiver.tasks.task import TEMPERATURES


@pytest.mark.parametrize(
    ("text", "machines", "per_machine"),
    [("H100", 1, 1), ("8xH100", 1, 8), ("4xh200", 1, 4), ("32xA100-40GB", 4, 8), ("3x6xL40S", 3, 6), ("8×T4", 1, 8)],
)
def test_devices_are_read(text: str, machines: int, per_machine: int) -> None:
    cluster = read_devices(text)
    assert (cluster.machines, cluster.per_machine) == (machines, per_machine)
    assert cluster.device == DEVICES[cluster.name]
    assert cluster.bandwidth == (12.5e9 if machines > 1 else cluster.device.link)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("8xH10", "no device 'H10'; did you mean 'H100'"),
        ("8xabacus", "no device 'abacus'; "),
        ("0xH100", "give a number and a device, as 8xH100"),
        ("twoxH100", "give a number and a device, as 8xH100"),
        ("2x2x2xH100", "give a number and a device, as 8xH100"),
        ("12xH100", "12 are no whole machines of 8; say how many machines of how many devices, as 2x6xH100"),
        ("", "no device ''; "),
    ],
)
def test_devices_that_are_none_are_refused(text: str, line: str) -> None:
    with pytest.raises(UserError, match=f"--devices {text}: .*{line}"):
        read_devices(text)


def test_every_figure_is_told_apart_by_precision() -> None:
    a100, v100 = DEVICES["A100"], DEVICES["V100"]
    assert [a100.peak(name) for name in ("float32", "bfloat16", "float16")] == [19.5e12, 312e12, 312e12]
    assert [v100.peak(name) for name in ("float32", "bfloat16", "float16")] == [15.7e12, 15.7e12, 125e12]


def test_amounts_are_short() -> None:
    assert [amount(value) for value in (0, 999, 1000, 8.4e9, 3e15)] == ["0 B", "999 B", "1 kB", "8.4 GB", "3 PB"]
    assert amount(999_700.0) == "1 MB"
    assert amount(7.3e13, "FLOP") == "73 TFLOP"


def arch(**changes: Any) -> Architecture:
    usual = {"width": 768, "layers": 12, "heads": 12, "ffn": 3072, "patch": 16, "vocabulary": 49411}
    return Architecture(**{**usual, "end": 1, "answer": 2, **changes})


def test_counts_of_the_papers_sizes_are_exact() -> None:
    """The encoder of ViT-B/16 has 12 (12 D^2 + 13 D) weights, and every block two scales of D."""
    counts = counts_of(empty_model(arch(), TEMPERATURES), 0, averages=False)
    blocks = 12 * (12 * 768**2 + 13 * 768 + 2 * 768)
    norms = 12 * (4 * 768 + 2 * 768)
    assert counts.by_part["attention"] + counts.by_part["FFN"] == blocks - norms
    assert counts.parameters == sum(counts.by_part.values()) == pytest.approx(124.6e6, rel=0.001)
    assert counts.root + 12 * counts.largest_group == counts.parameters
    every_other = tuple(range(0, 12, 2))
    moe = MoE(condition="attribute", experts=8, k=2, attention_layers=every_other, ffn_layers=every_other)
    mixture = counts_of(empty_model(arch(moe=moe), TEMPERATURES), 0, averages=False)
    assert mixture.parameters == pytest.approx(422.3e6, rel=0.001)
    assert mixture.by_part["experts"] == 8 * 6 * (12 * 768**2 + 9 * 768)
    assert mixture.largest_group == 8 * (12 * 768**2 + 9 * 768)


def test_what_is_held_and_sent_follows_the_formulas() -> None:
    counts = counts_of(empty_model(arch(), TEMPERATURES), 2 * 1000, averages=True)
    total = counts.parameters
    alone = held(counts, 1)
    assert (alone.weights, alone.gradients, alone.average, alone.moments) == (4 * total, 4 * total, 4 * total, 8000)
    assert alone.gathered == alone.by_task == 0
    shared = held(counts, 8, tasks=2)
    assert shared.weights == -(-4 * total // 8)
    assert shared.gathered == 8 * (2 * counts.largest_group + counts.root)
    assert shared.by_task == 2 * 4 * total
    assert (shards_of("ddp", 32, 8), shards_of("fsdp", 32, 8), shards_of("hsdp", 32, 8)) == (1, 32, 8)
    weights = 4 * total
    assert sent(counts, "ddp", 1, 1, 4) == 0
    assert sent(counts, "ddp", 4, 4, 4) == pytest.approx(2 * 3 / 4 * weights)
    assert sent(counts, "ddp", 4, 4, 1, copies=3) == pytest.approx(3 * 2 * 3 / 4 * weights)
    assert sent(counts, "fsdp", 8, 8, 2) == pytest.approx(2 * 6 * 7 / 8 * weights)
    assert sent(counts, "hsdp", 32, 8, 2) == pytest.approx(2 * 6 * 7 / 8 * weights + 2 * 3 / 4 * weights / 8)
    assert sent_for_candidates(1000, 768, 4) == 2 * 2 * 3 / 4 * 4 * 1000 * 768


def cost(inputs: float, encoding: float, saved: float = 1e6, candidates: int = 100) -> BatchCost:
    return BatchCost(
        samples=4,
        candidates=candidates,
        inputs=PassCost(tokens=10.0, saved=saved, flop=inputs),
        encoding=PassCost(tokens=90.0, saved=saved, flop=encoding),
    )


def test_the_slowest_process_decides() -> None:
    run = planned_run(small_recipe(("colours",), sampling__tasks_per_step=4), Path())
    alone = load_of(run, {"colours": cost(3.0, 1.0)}, 1)
    assert (alone.flop, alone.idle) == (pytest.approx(16.0), pytest.approx(0.0))
    assert load_of(run, {"colours": cost(3.0, 1.0)}, 3).flop == pytest.approx(8.0)
    assert load_of(run, {"colours": cost(3.0, 1.0)}, 3).idle == pytest.approx(1 / 3)
    assert load_of(run, {"colours": cost(3.0, 1.0)}, 4).last_backward == pytest.approx(4.0 * 2 / 3)
    sharing = small_recipe(("colours",), sampling__tasks_per_step=4, candidates__share="step")
    shared = load_of(planned_run(sharing, Path()), {"colours": cost(3.0, 1.0)}, 2)
    assert shared.flop == pytest.approx(2 * 3.0 + 1.0 / 2)
    assert shared.candidates == pytest.approx(100 * run.arch.width)


@pytest.fixture(scope="module")
def planned() -> StepPlan:
    return plan(small_recipe(("words",), sampling__tasks_per_step=8), Path(), read_devices("8xH100"))


def test_a_plan_says_what_to_change_first(planned: StepPlan) -> None:
    assert planned.fitting == ["ddp", "fsdp"]
    assert misfit(planned) is None
    lines = advice(planned)
    assert lines[0].startswith("ddp fits: ")
    assert any("of the tokens of words: set candidates.share=step" in line for line in lines)
    assert any("set optimiser.precision=bfloat16" in line for line in lines)
    assert any("40% (--mfu) of 67 TFLOP/s in float32 of a H100, and 450 GB/s" in line for line in assumptions(planned))
    text = "\n".join(as_text(planned))
    assert f"parameters  {planned.counts.parameters:,}" in text
    assert "hsdp" not in text  # on one machine it is fsdp
    values = as_json(planned)
    assert to_json(values)
    assert values["wraps"]["ddp"]["fits"] is True


def test_a_device_without_bfloat16_is_planned_as_it_would_train() -> None:
    recipe = small_recipe(("colours",), optimiser__precision="auto")
    old, new = (plan(recipe, Path(), read_devices(name)) for name in ("T4", "A10"))
    assert (old.precision, old.peak) == ("float32", 8.1e12)
    assert (new.precision, new.peak) == ("bfloat16", 125e12)
    assert any("set optimiser.precision=float16" in line for line in advice(old))
    assert not any("optimiser.precision" in line for line in advice(new))


def test_a_plan_that_does_not_fit_says_so_with_numbers(planned: StepPlan) -> None:
    cluster = planned.cluster
    assert cluster is not None
    small = dataclasses.replace(cluster, device=dataclasses.replace(cluster.device, memory=1e6))
    line = misfit(dataclasses.replace(planned, cluster=small))
    assert line is not None
    ddp = planned.wraps["ddp"]
    assert line.startswith("does not fit on 8 H100 of 1 MB: weights and what belongs to them + activations are ddp ")
    assert f"ddp {amount(ddp.held.total)} + {amount(ddp.activations)}, fsdp " in line
    assert line.endswith(
        "set candidates.share=step or set optimiser.recompute=true or set a smaller tasks.words.batch than 3"
    )


def test_sharing_is_a_process_s_own_part(planned: StepPlan) -> None:
    shared = plan(
        small_recipe(("words",), sampling__tasks_per_step=8, candidates__share="step"), Path(), read_devices("8xH100")
    )
    assert shared.shared == ("words",)
    assert shared.wraps["ddp"].activations < planned.wraps["ddp"].activations
    assert shared.load.flop < planned.load.flop
    assert shared.wraps["ddp"].sent > planned.wraps["ddp"].sent
    assert not any("candidates.share" in line for line in advice(shared))


def test_what_shards_cannot_do_is_said() -> None:
    odd = plan(small_recipe(("colours",), sampling__tasks_per_step=3), Path(), read_devices("2xH100"))
    assert odd.wraps["fsdp"].refused == "3 batches are no multiple of 2 processes"
    assert odd.fitting == ["ddp"]
    surgery = small_recipe(balance__method="pcgrad", sampling__tasks_per_step=2)
    by_task = plan(surgery, Path(), read_devices("2xH100"))
    assert by_task.wraps["fsdp"].refused is not None
    assert by_task.wraps["ddp"].held.by_task == 2 * 4 * by_task.counts.trained
    assert by_task.wraps["ddp"].sent == pytest.approx(2 * 4 * by_task.counts.trained)


def test_too_few_batches_are_refused_as_in_training() -> None:
    with pytest.raises(UserError, match=r"a step has 2 batches for 8 processes; set sampling\.tasks_per_step=8"):
        plan(small_recipe(), Path(), read_devices("8xH100"))


def reduced(recipe: Recipe, size: int) -> tuple[int, int]:
    """Bytes that a simulated process reduces in a step, and the parameters of the model."""
    made = simulated(recipe, Path(), size)
    return made.bytes["allreduce"], counts_of(planned_run(recipe, Path()).model, 0, averages=False).parameters


@pytest.mark.parametrize("size", [2, 16])
def test_a_simulated_step_sends_what_the_formula_says(size: int) -> None:
    count, parameters = reduced(small_recipe(sampling__tasks_per_step=size), size)
    names = len(list(planned_run(small_recipe(), Path()).model.parameters()))
    assert count == pytest.approx(4 * parameters + 4 * names, rel=0.001)  # and which are used
    assert not torch.distributed.is_initialized()


def test_a_simulated_step_with_shared_candidates_sends_them_too() -> None:
    recipe = small_recipe(("words",), sampling__tasks_per_step=2, candidates__share="step")
    run = planned_run(recipe, Path())
    count, parameters = reduced(recipe, 2)
    shared = 2 * 4 * run.codec.size * run.arch.width  # representations and their gradients
    most = 4 * parameters + 4 * len(list(run.model.parameters())) + shared
    assert 0.8 * most < count <= most  # by hand, what nobody uses is left out


def test_a_simulated_step_holds_what_the_plan_says(planned: StepPlan) -> None:
    made = simulated(small_recipe(("words",), sampling__tasks_per_step=8), Path(), 8)
    whole = planned.wraps["ddp"].held
    assert made.batches == 1
    assert 0.8 * (whole.weights + whole.moments) < made.held <= 1.01 * (whole.weights + whole.moments)
    assert "allreduce" in "\n".join(made.as_text())
    assert to_json(made.to_json())
