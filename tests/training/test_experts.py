"""What training says of the experts: the alarm, lines of figures, and loss-free balancing."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.moe_cases import inputs_of, moe_model
from tests.small_run import assert_same, log_lines, small_recipe, train
from uniperceiver.moe.statistics import GatePlace, statistics
from uniperceiver.records import Decision
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.experts import (
    CollapseAlarm,
    ExpertFigures,
    MostLoaded,
    collapse_warning,
    expert_scalars,
    gate_loads,
    move_biases,
)
from uniperceiver.training.log import RunLog
from uniperceiver.training.loop import Run
from uniperceiver.training.stop import Stopped

HERE = GatePlace(1, "ffn", 0)
EVEN, ONE = [25, 25, 25, 25], [50, 30, 10, 10]  # with k = 2, fifty tokens: all of them chose the first expert
TOKEN = {"moe": {"condition": "token", "experts": 4, "balance": {"switch": 0.05}}, "steps": 4, "log__every": 2}


def told(alarm: CollapseAlarm, steps: int, counts: Sequence[int], place: GatePlace = HERE) -> list[tuple[int, str]]:
    """Which of the steps brought what."""
    found = []
    for step in range(1, steps + 1):
        collapsed, recovered = alarm.add({place: torch.tensor(counts)})
        found += [(step, "collapsed")] * len(collapsed) + [(step, "recovered")] * len(recovered)
    return found


def test_the_alarm_rings_once_and_again_after_recovery() -> None:
    alarm = CollapseAlarm(k=2, steps=5)
    assert told(alarm, 12, EVEN) == []
    assert told(alarm, 20, ONE) == [(8, "collapsed")]  # at 3 the five steps are still mixed: 40 %
    assert told(alarm, 20, EVEN) == [(3, "recovered")]  # mixed again: 70 %
    assert told(alarm, 9, ONE) == [(8, "collapsed")]


def test_the_alarm_is_late_by_less_than_two_windows() -> None:
    for healthy in range(20):
        alarm = CollapseAlarm(k=2)
        told(alarm, healthy, EVEN)
        ((step, what),) = told(alarm, 50, ONE)
        assert what == "collapsed"
        assert step < 40


def test_the_alarm_names_gate_expert_and_share() -> None:
    alarm = CollapseAlarm(k=2, steps=1)
    well, ill = torch.tensor(EVEN), torch.tensor([2, 1, 93, 104])
    (change,), _ = alarm.add(
        {GatePlace(0, "attention", 0): well, GatePlace(4, "attention", 1): ill, GatePlace(5, "ffn", 0): well}
    )
    assert change == MostLoaded(place=GatePlace(4, "attention", 1), expert=3, tokens=pytest.approx(1.04))
    assert str(MostLoaded(place=GatePlace(4, "attention", 1), expert=3, tokens=0.97)) == (
        "layer 4 attention gate 1 (expert 3: 97%)"
    )
    text = collapse_warning(20, [change])
    assert text.startswith("step 20: routing has collapsed")
    assert "moe.balance.switch" in text


@pytest.mark.parametrize(("count", "rings"), [(89, False), (90, True), (100, True)])
def test_nearly_every_token_is_nine_of_ten(count: int, rings: bool) -> None:
    others = 200 - count  # of a hundred tokens' two assignments each
    counts = [count, others // 3, others // 3, others - 2 * (others // 3), 0, 0]
    assert bool(told(CollapseAlarm(k=2, steps=1), 1, counts)) == rings


@pytest.mark.parametrize(("k", "experts", "rings"), [(1, 2, True), (2, 4, True), (2, 3, False), (4, 4, False)])
def test_where_most_experts_are_chosen_nothing_is_watched(k: int, experts: int, rings: bool) -> None:
    counts = [100] * k + [0] * (experts - k)
    assert bool(told(CollapseAlarm(k=k, steps=1), 1, counts)) == rings


def test_no_assignments_are_no_collapse() -> None:
    assert told(CollapseAlarm(k=2, steps=1), 3, [0, 0, 0, 0]) == []
    assert CollapseAlarm(k=2, steps=1).add({}) == ([], [])


def decisions_of(condition: str, *kinds: str, **settings: Any) -> dict[str, list[Decision]]:
    """Decisions of a model, by a task's name."""
    model = moe_model(condition, **settings)
    return {kind: list(model.encode(inputs_of(kind)).decisions) for kind in kinds}


def wanted_of(decisions: dict[str, list[Decision]], place: GatePlace) -> Tensor:
    """Tokens of all tasks, without padding, that chose each expert of a gate."""
    there = [each for several in decisions.values() for each in several if (each.layer, each.part, each.gate) == place]
    assert len(there) == len(decisions)
    return torch.cat([each.wanted_TE[each.segment_T >= 0] for each in there]).sum(dim=0)  # type: ignore[operator]


def test_only_gates_that_read_values_are_counted() -> None:
    assert gate_loads(decisions_of("attribute", "image_captioning")) == {}
    decisions = decisions_of("token", "image_captioning", "vqa", gates=2)
    found = gate_loads(decisions)
    assert set(found) == {(layer, part, gate) for layer in (0, 1) for part in ("attention", "ffn") for gate in (0, 1)}
    assert all(torch.equal(count_E, wanted_of(decisions, place)) for place, count_E in found.items())


def test_loads_are_what_tokens_chose_whether_or_not_there_was_room() -> None:
    """A capacity cuts an expert that everybody chooses, and would hide a collapse and a bias that is due."""
    decisions = decisions_of("token", "vqa", evaluation_capacity=0.5)
    (each, *_) = decisions["vqa"]
    assert each.segment_T is not None
    assert int(each.chosen_TE.sum()) < int(each.wanted_TE.sum())
    tokens = int((each.segment_T >= 0).sum())
    assert 0 < tokens < len(each.segment_T)  # there is padding
    likeliest_T2 = each.probability_TE.argsort(dim=1, descending=True)[each.segment_T >= 0][:, :2]
    found_E = gate_loads(decisions)[GatePlace(each.layer, each.part, each.gate)]
    assert found_E.tolist() == [int((likeliest_T2 == expert).sum()) for expert in range(len(found_E))]
    assert int(found_E.sum()) == 2 * tokens


def test_biases_move_towards_experts_with_less_than_the_mean() -> None:
    model = moe_model("token", selection_bias=True)
    decisions = {"a": list(model.encode(inputs_of("vqa")).decisions)}
    move_biases(model, gate_loads(decisions), 0.0)
    bias_E: Tensor = model.encoder.blocks[1].ffn.router.gates[0].bias_E  # type: ignore[union-attr, index, assignment]
    assert not bias_E.any()
    move_biases(model, gate_loads(decisions), 0.5)
    count_E = gate_loads(decisions)[1, "ffn", 0].float()
    change_E = 0.5 * torch.sign(count_E.mean() - count_E)
    torch.testing.assert_close(bias_E, change_E - change_E.mean())


def test_figures_are_collected_before_a_line_is_due() -> None:
    figures = ExpertFigures(every=10, steps=1200)  # a line each 30 steps
    decisions = decisions_of("attribute", "vqa")
    taken = {}
    for step in range(1, 1201):
        figures.add(step, decisions)
        if step % 10 == 0:
            taken[step] = figures.take()
    due = [step for step, (values, _) in taken.items() if values]
    assert due == list(range(30, 1201, 30))
    assert all(not numbers for step, (_, numbers) in taken.items() if step not in due)


def test_the_last_line_of_a_short_run_has_figures() -> None:
    figures = ExpertFigures(every=20, steps=7)
    for step in range(1, 8):
        figures.add(step, decisions_of("attribute", "vqa"))
    assert figures.take()[0]


def test_the_last_line_of_a_long_run_has_figures_wherever_it_ends() -> None:
    figures, decisions = ExpertFigures(every=10, steps=1205), decisions_of("attribute", "vqa")  # a line each 40 steps
    figures.add(1190, decisions)
    assert figures.take() == ({}, {})
    figures.add(1201, decisions)
    assert figures.take()[0]


def test_each_task_is_looked_at_once_per_line() -> None:
    figures, decisions = ExpertFigures(every=2, steps=2), decisions_of("token", "vqa", "image_captioning")
    figures.add(1, {"vqa": decisions["vqa"], "empty": []})
    figures.add(2, {**decisions, "vqa": decisions["image_captioning"]})
    groups = figures.take()[0]["groups"]
    assert {each["task"] for each in groups} == {"vqa", "image_captioning"}
    counted = {(each["task"], each["kind"], each["layer"], each["part"]): each["tokens"] for each in groups}
    once = statistics(decisions["vqa"])
    assert all(counted["vqa", group.kind, group.layer, group.part] == one.tokens for group, one in once.items())


def test_tensorboard_has_each_task_and_the_loads_of_all() -> None:
    decisions = decisions_of("token", "vqa", "image_captioning")
    values = expert_scalars({task: statistics(several) for task, several in decisions.items()})
    for name in ("largest_load", "drop_rate", "entropy", "top1"):
        assert f"vqa/input_visual/layer_1_ffn/{name}" in values
        assert f"image_captioning/input_text/layer_0_attention/{name}" in values
    shares = [values[f"all_tasks/layer_0_attention/load_{expert}"] for expert in range(4)]
    count_E = wanted_of(decisions, GatePlace(0, "attention", 0))
    assert shares == pytest.approx((count_E / count_E.sum()).tolist())
    assert shares != [0.25] * 4


def test_a_run_writes_experts_lines(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(**TOKEN))
    lines = log_lines(tmp_path / "run", "experts")
    assert [line["step"] for line in lines] == [2, 4]
    group = lines[-1]["groups"][0]
    assert (len(group["load"]), group["layer"]) == (4, 0)
    assert 0 < group["top1"] <= 1
    for line in log_lines(tmp_path / "run", "train"):
        balanced = [name.removesuffix("/balance_loss") for name in line if name.endswith("/balance_loss")]
        assert balanced == [name.removesuffix("/loss") for name in line if name.endswith("/loss")]
        assert all(0.04 < line[f"{name}/balance_loss"] < 0.2 for name in balanced)  # 0.05 where loads are even


@pytest.mark.parametrize("condition", ["shared", "task_specific"])
def test_without_gates_there_are_no_experts_lines(tmp_path: Path, condition: str) -> None:
    train(tmp_path / "run", small_recipe(**{**TOKEN, "moe": {"condition": condition}}))
    assert log_lines(tmp_path / "run", "experts") == []
    assert not any("balance" in name for line in log_lines(tmp_path / "run", "train") for name in line)


def collapsed_run(folder: Path, stop_after: int | None = None) -> Run:
    """A run whose gates find all experts alike, so that every token takes the same two; and nothing is learned."""
    changes = {"log__every": 50, "optimiser__lr": 1e-12, "optimiser__min_lr": 0.0, "optimiser__weight_decay": 0.0}
    section = {"condition": "token", "experts": 4, "noise": 0.0, "balance": {"switch": 0.0}}
    recipe = small_recipe(("relations",), steps=42, moe=section, **changes)
    run = prepare_run(recipe, folder, folder, quiet=True)
    with torch.no_grad():
        for name, parameter in run.state.model.named_parameters():
            if ".gates." in name:
                parameter.zero_()
    between = run._evaluate_and_save

    def stopping(log: Any, stop: Any) -> None:
        stop.requested |= run.state.step == stop_after
        between(log, stop)

    run._evaluate_and_save = stopping  # type: ignore[method-assign]
    with suppress(Stopped):
        run.train()
    return run


def test_a_collapsed_run_warns_once_and_once_more_when_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = collapsed_run(tmp_path / "whole")
    (line,) = log_lines(tmp_path / "whole", "warning")
    assert line["step"] == 20
    assert {(each["layer"], each["part"]) for each in line["gates"]} == {(0, "attention"), (0, "ffn")}
    assert all(each["tokens"] == pytest.approx(1.0) for each in line["gates"])
    assert line["text"] in " ".join(capsys.readouterr().err.split())
    collapsed_run(tmp_path / "parts", stop_after=21)
    parts = collapsed_run(tmp_path / "parts")
    assert [line["step"] for line in log_lines(tmp_path / "parts", "warning")] == [20, 41]
    assert_same(whole, parts)


def test_a_run_that_reads_no_values_never_warns(tmp_path: Path) -> None:
    section = {"condition": "attribute", "experts": 4}
    train(tmp_path / "run", small_recipe(("colours",), steps=22, moe=section, log__every=50))
    assert log_lines(tmp_path / "run", "warning") == []


def test_tensorboard_gets_its_own_numbers_where_they_are_given(tmp_path: Path) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            written.append((tag, value, step))

        def flush(self) -> None: ...
        def close(self) -> None: ...

    log = RunLog(tmp_path, first_step=0, steps=9, tensorboard=False, quiet=True)
    log._scalars = Writer()
    log.line(3, "experts", {"groups": [{"task": "a"}], "number": 1.0}, {"a/layer_0_ffn/entropy": 0.5})
    log.line(4, "train", {"loss": 2.0, "text": "x"})
    log.close()
    assert written == [("experts/a/layer_0_ffn/entropy", 0.5, 3), ("train/loss", 2.0, 4)]
    assert log_lines(tmp_path, "experts")[0]["groups"] == [{"task": "a"}]


def test_between_collapse_and_recovery_nothing_is_said() -> None:
    """A gate at the border would be reported again and again."""
    alarm, place = CollapseAlarm(1, steps=1), GatePlace(0, "ffn", 0)
    said = []
    for share in (85, 95, 85, 95, 79, 85, 91):
        collapsed, recovered = alarm.add({place: torch.tensor([share, 100 - share])})
        said.append((len(collapsed), len(recovered)))
    assert said == [(0, 0), (1, 0), (0, 0), (0, 0), (0, 1), (0, 0), (1, 0)]
