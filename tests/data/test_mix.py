"""The mixture: what a step sees is a pure function of (seed, step) and the counters."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parts import flat
from tests.tiny import tiny_codec, tiny_task
from uniperceiver.config import AugmentConfig
from uniperceiver.data.loader import load
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.mix import BatchMaker, Mixture, Plan, Stage, TrainingSet, sampling_weights
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Batch, Broken, Sample
from uniperceiver.streams import numpy_stream

SIZES = (7, 10, 5)
TASKS = ("image_classification", "image_text_retrieval", "masked_language_modelling")


@dataclass(frozen=True)
class Numbers:
    """Samples that are told apart by their noise, some of them broken."""

    size: int
    broken: tuple[int, ...] = ()
    classes: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return self.size

    def read(self, index: int) -> Sample:
        if index in self.broken:
            raise BrokenSample(f"n{index}", "is broken")
        image = numpy_stream(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        text = f"a red dot number {index} above a blue square that moves to the left"
        return Sample(id=f"n{index}", image=image, text=text, captions=(text, f"dot {index}"), label=index % 2)

    def texts(self) -> Iterator[str]:
        return iter(())


def mixture(
    *, broken: tuple[int, ...] = (), augment: AugmentConfig | None = None, late: int = 10**9, **fields: Any
) -> Mixture:
    """Three tasks of 7, 10 and 5 samples with the weights 1, 2, 3; late ones 4, 2, 2."""
    sets = tuple(
        TrainingSet(
            task=tiny_task(name),
            index=index,
            source=Numbers(size, broken),
            augment=augment or AugmentConfig(crop=0.4),
            stages=(
                Stage(begins=0, preprocess=Preprocess(size=8, length=24), batch=3, weight=index + 1.0),
                Stage(begins=late, preprocess=Preprocess(size=12, length=24), batch=2, weight=(4.0, 2.0, 2.0)[index]),
            ),
        )
        for index, (name, size) in enumerate(zip(TASKS, SIZES, strict=True))
    )
    values = {"seed": 0, "mode": "mixed", "tasks_per_step": 2, "accumulate": 1, **fields}
    return Mixture(sets=sets, codec=tiny_codec(), **values)


def only(one: Mixture, index: int) -> Mixture:
    """The same mixture, in which only that task is drawn."""
    return replace(one, sets=tuple(_weighted(each, float(each.index == index)) for each in one.sets))


def _weighted(tasks: TrainingSet, weight: float) -> TrainingSet:
    return replace(tasks, stages=tuple(replace(stage, weight=weight) for stage in tasks.stages))


def batches(one: Mixture, count: int) -> list[tuple[Plan, Batch | None, tuple[Broken, ...]]]:
    return [BatchMaker(one)[plan] for plan in islice(one.endless(0, [0, 0, 0]), count)]


def same(a: Batch, b: Batch) -> bool:
    def tensors(batch: Batch) -> list[torch.Tensor | None]:
        inputs, readout = batch.inputs, batch.readout
        texts = (flat(inputs).ids_BN, flat(inputs).valid_BN, batch.candidates and flat(batch.candidates).ids_BN)
        return [flat(inputs).pixels_BFCHW, readout.target_R, readout.position_R, readout.soft_RK, *texts]

    pairs = zip(tensors(a), tensors(b), strict=True)
    equal = all(x is y if x is None or y is None else torch.equal(x, y) for x, y in pairs)
    return equal and (a.task, a.ids) == (b.task, b.ids)


@pytest.mark.parametrize("mode", ["mixed", "unmixed"])
def test_plans_are_the_same_wherever_one_starts(mode: str) -> None:
    one = mixture(mode=mode, tasks_per_step=3, accumulate=2)
    assert one.batches_per_step == 6
    whole = list(islice(one.endless(0, [0, 0, 0]), 60))
    for step in (1, 4, 9):
        consumed = [0, 0, 0]
        for plan in whole[: 6 * step]:
            consumed[plan.index] += plan.count
        assert (
            list(islice(mixture(mode=mode, tasks_per_step=3, accumulate=2).endless(step, consumed), 6))
            == whole[6 * step :][:6]
        )
        assert one.plans(step, consumed) == whole[6 * step :][:6]
        assert [plan.place for plan in whole[6 * step :][:6]] == list(range(6))
    assert list(islice(replace(one, seed=1).endless(0, [0, 0, 0]), 60)) != whole


def test_a_step_mixes_tasks_or_takes_one() -> None:
    mixed = [mixture(tasks_per_step=4, accumulate=2).tasks_of(step) for step in range(50)]
    unmixed = [mixture(mode="unmixed", tasks_per_step=4, accumulate=2).tasks_of(step) for step in range(50)]
    assert {len(tasks) for tasks in (*mixed, *unmixed)} == {8}
    assert all(tasks[0::2] == tasks[1::2] for tasks in mixed)  # accumulated batches are of one task
    assert {len(set(tasks)) for tasks in mixed} == {1, 2, 3}  # drawn with replacement
    assert {len(set(tasks)) for tasks in unmixed} == {1}


@pytest.mark.parametrize(("mode", "draws"), [("mixed", 2), ("unmixed", 1)])
def test_tasks_have_their_shares(mode: str, draws: int) -> None:
    steps = 1500
    one = mixture(mode=mode)
    drawn = Counter(task for step in range(steps) for task in one.tasks_of(step)[:draws])
    n = steps * draws
    for index, share in enumerate((1 / 6, 2 / 6, 3 / 6)):
        assert abs(drawn[index] - n * share) < 3 * (n * share * (1 - share)) ** 0.5


def test_each_epoch_sees_each_sample_once_in_another_order() -> None:
    one = only(mixture(), 1)
    seen = [name for _, batch, _ in batches(one, 10) for name in batch.ids]  # 30 samples, 3 epochs of 10
    epochs = [tuple(seen[start : start + 10]) for start in (0, 10, 20)]
    assert all(sorted(epoch) == sorted(f"n{index}" for index in range(10)) for epoch in epochs)
    assert len(set(epochs)) == 3
    assert [name for _, batch, _ in batches(replace(one, seed=1), 10) for name in batch.ids] != seen


def test_an_epoch_may_end_inside_a_batch_and_any_batch_can_be_made_first() -> None:
    one = only(mixture(), 0)
    made = batches(one, 6)  # 18 samples of a set of 7
    for plan, batch, _ in reversed(made):
        assert same(BatchMaker(one)[plan][1], batch)


def test_another_view_of_the_same_sample_in_each_epoch() -> None:
    one = only(mixture(), 0)
    views: dict[str, list[torch.Tensor]] = {}
    for _, batch, _ in batches(one, 7):
        for name, pixels in zip(batch.ids, flat(batch.inputs).pixels_BFCHW, strict=True):
            views.setdefault(name, []).append(pixels)
    assert all(len(each) == 3 for each in views.values())
    assert sum(not torch.equal(first, second) for first, second, _ in views.values()) >= 5  # small pictures, few crops


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    one = mixture(broken=(2,))
    plans = list(islice(one.endless(0, [0, 0, 0]), 8))
    for (plan, batch, broken), made in zip(load(BatchMaker(one), iter(plans), workers), batches(one, 8), strict=True):
        assert plan == made[0]
        assert same(batch, made[1])
        assert broken == made[2]


def test_a_later_stage_has_its_own_sizes() -> None:
    one = only(mixture(late=2), 0)
    made = batches(one, 6)
    assert [plan.stage for plan, _, _ in made] == [0] * 4 + [1] * 2  # two batches a step
    assert [flat(batch.inputs).pixels_BFCHW.shape[-1] for _, batch, _ in made] == [8] * 4 + [12] * 2
    assert [len(batch.ids) for _, batch, _ in made] == [3] * 4 + [2] * 2
    assert [plan.start for plan, _, _ in made] == [0, 3, 6, 9, 12, 14]


@pytest.mark.parametrize("index", range(3))
def test_a_broken_sample_leaves_the_others_as_they_were(index: int) -> None:
    whole, torn = (batches(only(mixture(broken=broken), index), 6) for broken in ((), (2,)))
    left_out = 0
    for (plan, full, _), (other_plan, rest, broken) in zip(whole, torn, strict=True):
        assert plan == other_plan
        kept = [row for row, name in enumerate(full.ids) if name != "n2"]
        left_out += len(full.ids) - len(kept)
        assert broken == (Broken(task=TASKS[index], sample="n2", reason="is broken"),) * (len(full.ids) - len(kept))
        assert rest.ids == tuple(full.ids[row] for row in kept)
        if broken:  # the model draws what is random for the batch as it was planned
            for sequences in (rest.inputs, *filter(None, [rest.candidates])):
                assert sequences.place_B.tolist() == kept
                assert sequences.planned == plan.count
        if flat(full.inputs).pixels_BFCHW is not None:
            assert torch.equal(flat(rest.inputs).pixels_BFCHW, flat(full.inputs).pixels_BFCHW[kept])
        texts = (
            (flat(full.inputs).ids_BN, flat(rest.inputs).ids_BN) if index == 2 else (full.candidates, rest.candidates)
        )
        if index == 1:
            texts = (flat(full.candidates).ids_BN, flat(rest.candidates).ids_BN)
        if index:
            width = min(texts[0].shape[1], texts[1].shape[1])
            assert torch.equal(texts[0][kept][:, :width], texts[1][:, :width])
    assert left_out >= 1


def test_a_batch_of_broken_samples_is_none() -> None:
    one = only(mixture(broken=tuple(range(7))), 0)
    ((plan, batch, broken),) = batches(one, 1)
    assert batch is None
    assert len(broken) == plan.count == 3


@pytest.mark.parametrize("augment", [AugmentConfig(crop=0.4), AugmentConfig(mixup=1.0), AugmentConfig(cutmix=1.0)])
@pytest.mark.parametrize("index", [0, 2])
def test_a_part_of_a_batch_holds_the_samples_of_the_whole(index: int, augment: AugmentConfig) -> None:
    one = only(mixture(broken=(2,), augment=augment), index)
    for plan, whole, broken in batches(one, 6):
        first, rest = (BatchMaker(one)[replace(plan, places=places)] for places in ((1,), (0, 2)))
        assert len(first[2] + rest[2]) == len(broken)
        for _, part, _ in (first, rest):
            if part is None:
                continue
            rows = [whole.ids.index(name) for name in part.ids]
            assert part.inputs.planned == plan.count
            assert len(part.inputs.place_B) == len(rows)
            if whole.inputs.place_B is not None:
                assert torch.equal(part.inputs.place_B, whole.inputs.place_B[rows])
            if index == 0:
                assert torch.equal(flat(part.inputs).pixels_BFCHW, flat(whole.inputs).pixels_BFCHW[rows])
                assert torch.equal(part.readout.target_R, whole.readout.target_R[rows])
            else:
                width = flat(part.inputs).ids_BN.shape[1]
                assert torch.equal(flat(part.inputs).ids_BN, flat(whole.inputs).ids_BN[rows, :width])
            if whole.readout.soft_RK is not None:
                assert torch.equal(part.readout.soft_RK, whole.readout.soft_RK[rows])
        assert sorted((first[1].ids if first[1] else ()) + (rest[1].ids if rest[1] else ())) == sorted(whole.ids)


@pytest.mark.parametrize(
    ("name", "mixes"),
    [
        ("image_classification", True),
        ("video_classification", True),
        ("image_tagging", True),
        ("text_classification", False),
        ("visual_question_answering", False),
        ("image_captioning", False),
        ("image_text_retrieval", False),
    ],
)
def test_only_labelled_pictures_alone_are_blended(name: str, mixes: bool) -> None:
    values: dict[str, Any] = {"task": tiny_task(name), "index": 0, "source": Numbers(4), "stages": ()}
    for augment, expected in ((AugmentConfig(mixup=1.0), mixes), (AugmentConfig(cutmix=1.0), mixes)):
        assert TrainingSet(augment=augment, **values).mixes == expected
    assert not TrainingSet(augment=AugmentConfig(crop=0.4), **values).mixes


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_up_pictures_have_mixed_targets(kind: str) -> None:
    one = only(mixture(augment=AugmentConfig(**{kind: 1.0})), 0)
    made, plain = batches(one, 6), batches(only(mixture(augment=AugmentConfig()), 0), 6)
    blended = 0
    for (_, batch, _), (_, unmixed, _) in zip(made, plain, strict=True):
        soft = batch.readout.soft_RK
        assert soft.shape == (3, len(one.sets[0].task.labels))
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(3))
        assert unmixed.readout.soft_RK is None
        blended += not torch.equal(flat(batch.inputs).pixels_BFCHW, flat(unmixed.inputs).pixels_BFCHW)
        assert batch.ids == unmixed.ids
    assert blended >= 4
    again = batches(one, 6)
    assert all(same(first[1], second[1]) for first, second in zip(made, again, strict=True))


def test_only_labelled_pictures_are_mixed_up() -> None:
    for index in (1, 2):
        mixed, plain = (
            batches(only(mixture(augment=augment), index), 2) for augment in (AugmentConfig(mixup=1.0), AugmentConfig())
        )
        assert all(same(a[1], b[1]) for a, b in zip(mixed, plain, strict=True))


def test_a_window_is_several_draws_at_once() -> None:
    """A window of 1 is an unmixed step as it always was; the first draw of a larger one is the same."""
    plain = [mixture(mode="unmixed", tasks_per_step=2, accumulate=2).tasks_of(step) for step in range(50)]
    one = mixture(mode="unmixed", tasks_per_step=2, accumulate=2, window=3)
    assert one.batches_per_step == 12
    wide = [one.tasks_of(step) for step in range(50)]
    assert all(len(tasks) == 12 and tasks[:4] == few for tasks, few in zip(wide, plain, strict=True))
    assert all(len({*tasks[start : start + 4]}) == 1 for tasks in wide for start in (0, 4, 8))
    assert {len(set(tasks)) for tasks in wide} == {1, 2, 3}
    assert [plan.place for plan in one.plans(5, [0, 0, 0])] == list(range(12))


def test_shares_add_up_and_late_weights_hold_from_their_step_on() -> None:
    assert mixture().shares == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    one, early = mixture(late=400), mixture()
    assert [one.tasks_of(step) for step in range(400)] == [early.tasks_of(step) for step in range(400)]
    drawn = np.bincount([index for step in range(400, 2400) for index in one.tasks_of(step)], minlength=3)
    assert drawn / drawn.sum() == pytest.approx([0.5, 0.25, 0.25], abs=0.03)


SAMPLES = {"a": 100, "b": 900, "c": 5}


def test_weights_follow_the_sizes_unless_they_are_given() -> None:
    weights = sampling_weights(SAMPLES, {"a": None, "b": None, "c": 2.0}, 0.5)
    assert weights == pytest.approx({"a": 0.5, "b": 1.5, "c": 2.0})  # sqrt: 10 and 30, scaled to a mean of 1
    assert sampling_weights({"a": 4, "b": 9}, {"a": None, "b": None}, 0.0) == {"a": 1.0, "b": 1.0}
    assert sampling_weights({"a": 4}, {"a": 3.0}, 1.0) == {"a": 3.0}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e9])
def test_it_is_temperature_sampling(temperature: float) -> None:
    weights = sampling_weights(SAMPLES, dict.fromkeys(SAMPLES), 1.0 / temperature)
    powers = {name: size ** (1.0 / temperature) for name, size in SAMPLES.items()}
    total, expected = sum(weights.values()), sum(powers.values())
    assert {name: each / total for name, each in weights.items()} == pytest.approx(
        {name: each / expected for name, each in powers.items()}
    )
    if temperature == 1.0:
        assert weights["b"] / weights["a"] == pytest.approx(9.0)
    if temperature == 1e9:
        assert weights == pytest.approx(dict.fromkeys(SAMPLES, 1.0))


def test_batches_of_a_step_are_blended_with_partners_and_shares_of_their_own() -> None:
    mixed = only(mixture(augment=AugmentConfig(mixup=1.0)), 0)
    plan = mixed.plans(0, [0, 0, 0])[0]
    made = [BatchMaker(mixed)[replace(plan, place=place)][1] for place in range(3)]
    pixels = [flat(batch.inputs).pixels_BFCHW for batch in made if batch is not None]
    assert not torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[1], pixels[2])


def test_tasks_that_take_turns_do_not_draw_their_orders_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: Counter[tuple[object, ...]] = Counter()

    def counted(*names: Any) -> np.random.Generator:
        drawn[names] += 1
        return numpy_stream(*names)

    monkeypatch.setattr("uniperceiver.data.mix.numpy_stream", counted)
    mixed = mixture(tasks_per_step=3)
    maker = BatchMaker(mixed)
    for plan in islice(mixed.endless(0, [0, 0, 0]), 30):
        maker[plan]
    orders = {names: times for names, times in drawn.items() if names[1] == "order"}
    assert len(orders) > 3
    assert set(orders.values()) == {1}
    assert len(maker._orders) <= 2 * 3
