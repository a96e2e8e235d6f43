"""How tasks and their shapes take turns: pure functions of (seed, step), whose shares are those that were asked for."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_mix import mixture
from uniperceiver.data.batch import Kept
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.mix import NEVER, BatchMaker, Mixture, Stage

WEIGHTS = (0.401, 0.401, 0.033, 0.080, 0.033, 0.050)  # of the steps in IMP's released code


def weighted(weights: tuple[float, ...], **fields: Any) -> Mixture:
    """The three tasks of `mixture` again and again, with such weights."""
    one = mixture(**fields)
    sets = [one.sets[place % 3] for place in range(len(weights))]
    sets = [
        replace(tasks, stages=tuple(replace(stage, weight=weight) for stage in tasks.stages))
        for tasks, weight in zip(sets, weights, strict=True)
    ]
    return replace(one, sets=tuple(sets))


def shaped(**fields: Any) -> Mixture:
    """`mixture` with two shapes of the first task, of which the second is drawn three times as often."""
    one = mixture(**fields)
    stages = (
        Stage(begins=0, preprocess=Preprocess(size=8, length=24), batch=3),
        Stage(begins=0, preprocess=Preprocess(size=12, length=24), batch=2, kept={"image": Kept(tokens=2, of=9)}),
        Stage(begins=NEVER, preprocess=Preprocess(size=16, length=24), batch=1),
    )
    first = replace(one.sets[0], stages=stages, turns=(1.0, 3.0, 0.0))
    return replace(one, sets=(first, *one.sets[1:]))


@pytest.mark.parametrize(("order", "bar"), [("even", 0.035), ("random", 0.6)])
def test_shares_of_steps_are_near_the_weights(order: str, bar: float) -> None:
    worst, longest = 0.0, 0
    for seed in range(5):
        one = weighted(WEIGHTS, mode="unmixed", order=order, tasks_per_step=1, seed=seed)
        drawn = [one.tasks_of(step)[0] for step in range(1000)]
        counts = Counter(drawn)
        shares = np.array(WEIGHTS) / sum(WEIGHTS)
        worst = max(worst, *(abs(counts[index] / 1000 / share - 1) for index, share in enumerate(shares)))
        rare = [step for step, index in enumerate(drawn) if index == 2]
        longest = max(longest, *np.diff(rare))
    assert worst < bar
    assert (worst > 0.1) == (order == "random")
    assert (longest > 60) == (order == "random")


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 10), min_size=2, max_size=6),
    draws=st.integers(1, 5),
    mode=st.sampled_from(["mixed", "unmixed"]),
    seed=st.integers(0, 2**31),
)
def test_even_turns_leave_no_task_far_from_its_share(weights: list[float], draws: int, mode: str, seed: int) -> None:
    """A task's count differs from its share by a few, however many draws: those of the golden ratio lie so evenly."""
    fields: dict[str, Any] = {"window": draws} if mode == "unmixed" else {"tasks_per_step": draws}
    one = weighted(tuple(weights), mode=mode, order="even", seed=seed, **fields)
    of_draw = one.batches_per_step // one.draws
    counts = Counter(index for step in range(200) for index in one.tasks_of(step)[::of_draw])
    total = 200 * one.draws
    assert sum(counts.values()) == total
    for index, weight in enumerate(weights):
        assert abs(counts[index] - total * weight / sum(weights)) < 8
    assert one.tasks_of(7) == one.tasks_of(7)


def test_the_draws_of_a_step_follow_each_other() -> None:
    one, many = (weighted(WEIGHTS, order="even", mode="mixed", tasks_per_step=draws) for draws in (1, 3))
    for step in range(50):
        assert many.tasks_of(step) == tuple(one.tasks_of(3 * step + draw)[0] for draw in range(3))


def test_a_task_that_is_not_drawn_yet_is_never_drawn() -> None:
    for weights in ((0.0, 1.0, 2.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)):
        one = weighted(weights, order="even")
        assert {index for step in range(300) for index in one.tasks_of(step)} == set(np.flatnonzero(weights))


def test_shapes_take_turns_by_their_weights() -> None:
    one = shaped(tasks_per_step=3, accumulate=2)
    plans = list(islice(one.endless(0, [0, 0, 0]), 6 * 400))
    of_first = [plan for plan in plans if plan.index == 0]
    counts = Counter(plan.stage for plan in of_first)
    assert set(counts) == {0, 1}
    assert counts[1] / len(of_first) == pytest.approx(0.75, abs=0.05)
    assert {plan.stage for plan in plans if plan.index} == {0}
    assert {plan.count for plan in of_first if plan.stage == 1} == {2}
    by_draw: dict[tuple[int, int], set[int]] = {}
    for plan in of_first:
        by_draw.setdefault((plan.step, plan.place // 2), set()).add(plan.stage)
    assert {len(stages) for stages in by_draw.values()} == {1}  # one shape in all batches of a draw
    in_step: dict[int, set[int]] = {}
    for plan in of_first:
        in_step.setdefault(plan.step, set()).add(plan.stage)
    assert {len(stages) for stages in in_step.values()} == {1, 2}  # but not in those of a step


@pytest.mark.parametrize("order", ["random", "even"])
@pytest.mark.parametrize("mode", ["mixed", "unmixed"])
def test_shapes_are_the_same_wherever_one_starts(mode: str, order: str) -> None:
    fields: dict[str, Any] = {"mode": mode, "order": order, "tasks_per_step": 2, "accumulate": 2}
    whole = list(islice(shaped(**fields).endless(0, [0, 0, 0]), 4 * 30))
    for step in (1, 6, 17, 25):
        consumed = [0, 0, 0]
        for plan in whole[: 4 * step]:
            consumed[plan.index] += plan.count
        assert list(islice(shaped(**fields).endless(step, consumed), 12)) == whole[4 * step :][:12]
        assert shaped(**fields).plans(step, consumed) == whole[4 * step :][:4]


def test_one_shape_draws_nothing() -> None:
    one = shaped()
    alone = replace(one.sets[0], turns=(0.0, 1.0, 0.0), stages=(one.sets[0].stages[1],) * 3)
    assert alone.drawn_stage(3, 0, 0) == alone.stage_at(3)


def test_batches_have_their_shape() -> None:
    one = shaped(mode="unmixed")
    for plan in islice(one.endless(0, [0, 0, 0]), 60):
        if plan.index == 0:
            _, batch, _ = BatchMaker(one)[plan]
            (part,) = batch.inputs.parts
            assert part.values.shape[-1] == (8, 12)[plan.stage]
            assert (part.keep_BG is None) == (plan.stage == 0)
            assert part.keep_BG is None or part.keep_BG.shape == (2, 2)


@pytest.mark.parametrize("multiple", [8, 5])
def test_texts_are_padded_to_few_lengths(multiple: int) -> None:
    plain, wide = mixture(mode="unmixed"), mixture(mode="unmixed", round=multiple)
    plans, changed = list(islice(plain.endless(0, [0, 0, 0]), 24)), 0
    for plan in plans:
        before, after = BatchMaker(plain)[plan][1], BatchMaker(wide)[plan][1]
        for old, new in ((before.inputs, after.inputs), (before.candidates, after.candidates)):
            if old is None or old.text is None:
                assert (old is None) == (new is None)
                continue
            width = old.text.values.shape[1]
            assert new.text.values.shape[1] == width + -width % multiple
            assert torch.equal(new.text.values[:, :width], old.text.values)
            assert not new.text.values[:, width:].any()
            if new.text.values.shape[1] > width:
                changed += 1
                assert not new.text.valid_BN[:, width:].any()
                assert torch.equal(
                    new.text.valid_BN[:, :width],
                    torch.ones_like(old.text.values, dtype=torch.bool)
                    if old.text.valid_BN is None
                    else old.text.valid_BN,
                )
        assert torch.equal(before.readout.position_R, after.readout.position_R)
    assert changed
