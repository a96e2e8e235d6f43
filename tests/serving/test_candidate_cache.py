"""The cache of candidates: whatever the library does to weights empties it, and threads share what it makes."""

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.moe_cases import moe_model
from tests.tiny import tiny_codec, tiny_model, tiny_task
from uniperceiver.config import OptimiserConfig
from uniperceiver.model.model import Generalist
from uniperceiver.optimisation.adamw import adamw
from uniperceiver.runs.validation import averaged_weights
from uniperceiver.serving.candidate_cache import CandidateCache
from uniperceiver.tasks.candidates import label_candidates, represent_candidates
from uniperceiver.tasks.task import Task
from uniperceiver.training.experts import gate_loads, move_biases
from uniperceiver.training.step import BatchLoss, TrainState, train_step

LABELS = (("red square", "a square that is red"), ("dot",), ("blue", "sky", "a very blue thing"))
TASK = replace(tiny_task("image_classification"), labels=LABELS)
CONFIG = OptimiserConfig(lr=1e-2)


def represented(model: Generalist) -> Tensor:
    return represent_candidates(model, label_candidates(TASK, tiny_codec(), None))


def state_of(model: Generalist, **more: Any) -> TrainState:
    return TrainState(model=model, optimiser=adamw(model, CONFIG), **more)


def train(model: Generalist) -> None:
    """A step with the fused optimiser, which moves no version counter of a tensor."""
    work: list[Any] = [(None, type("Batch", (), {"task": "task"}))]
    train_step(
        state_of(model), work, lambda batch, plan: BatchLoss(terms={"nll": represented(model).sum()}), CONFIG, 1.0
    )


def load(model: Generalist, **options: bool) -> None:
    model.load_state_dict(tiny_model(seed=1).state_dict(), **options)


def load_inside(model: Generalist) -> None:
    """As a part of another module, such as the objective."""
    outer, other = torch.nn.ModuleDict({"model": model}), torch.nn.ModuleDict({"model": tiny_model(seed=1)})
    outer.load_state_dict(other.state_dict())


def by_hand(model: Generalist) -> None:
    with torch.no_grad():
        model.head.linear.bias.add_(1.0)
    model.weights_changed()


@pytest.mark.parametrize(
    "change",
    [
        train,
        load,
        lambda model: load(model, assign=True),
        load_inside,
        lambda model: model.double(),
        lambda model: torch.nn.ModuleList([model]).double(),
        by_hand,
    ],
    ids=["training", "load_state_dict", "assign", "load inside", "double", "double inside", "by hand"],
)
def test_any_change_of_the_weights_empties_the_cache(change: Callable[[Generalist], None]) -> None:
    model, cache, made = tiny_model(), CandidateCache(), []

    def make() -> Tensor:
        made.append(1)
        return represented(model).detach()

    before = cache.get("labels", model, make)
    assert cache.get("labels", model, make) is before
    represented(model).sum().backward()  # passes change no weights
    model.eval()
    assert cache.get("labels", model, make) is before
    assert len(made) == 1
    change(model)
    after = cache.get("labels", model, make)
    assert len(made) == 2
    assert not torch.equal(after, before)
    assert cache.get("labels", model, make) is after


def test_averaged_weights_come_and_go() -> None:
    model, cache = tiny_model(), CandidateCache()
    state = state_of(model, average={name: value + 1 for name, value in model.named_parameters()})

    def get() -> Tensor:
        return cache.get("labels", model, lambda: represented(model).detach())

    own = get()
    with averaged_weights(state):
        assert not torch.equal(get(), own)
    assert torch.equal(get(), own)


def test_a_moved_selection_bias_empties_the_cache() -> None:
    model, cache = moe_model("token", selection_bias=True), CandidateCache()

    def get() -> Tensor:
        return cache.get("labels", model, lambda: represented(model).detach())

    before = get()
    decisions = model.encode(label_candidates(TASK, tiny_codec(), None).sequences).decisions
    move_biases(model, gate_loads({"task": decisions}), 1.0)
    assert get() is not before
    torch.testing.assert_close(get(), represented(model).detach())
    assert not torch.equal(get(), before)


def test_cache_keys_are_the_texts_and_what_routing_sees() -> None:
    model, cache, made = tiny_model(), CandidateCache(limit=3), []

    def get(task: Task, index: int | None = None) -> Tensor:
        def make() -> Tensor:
            made.append((task.name, index))
            return torch.tensor(float(len(made)))

        return cache.get((task.labels, task.facts("candidate", index)), model, make)

    video = replace(tiny_task("video_classification"), labels=LABELS)
    text = replace(tiny_task("text_classification"), labels=LABELS)
    first = get(TASK)
    assert get(video) is first  # image and video are both visual: the very same sequences
    assert get(text) is not first
    assert get(TASK, 1) is not first
    assert len(made) == 3
    get(replace(TASK, labels=LABELS[:2]))  # a fourth set: the oldest has to go
    assert get(text).item() == 2.0
    assert get(TASK).item() == 5.0


def test_threads_share_what_is_made_once() -> None:
    model, cache, made, at_work = tiny_model(), CandidateCache(), [], threading.Event()

    def make() -> Tensor:
        made.append(threading.get_ident())
        at_work.wait(10)
        return torch.tensor(1.0)

    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(cache.get, "slow", model, make) for _ in range(6)]
        assert float(cache.get("other", model, lambda: torch.tensor(2.0))) == 2.0  # waits for nobody
        at_work.set()
        entries = [future.result(timeout=10) for future in slow]
    assert len(made) == 1
    assert all(entry is entries[0] for entry in entries)


def test_an_error_reaches_all_that_wait_and_is_not_kept() -> None:
    model, cache, failing = tiny_model(), CandidateCache(), threading.Event()

    def fail() -> Tensor:
        failing.wait(10)
        raise ValueError("no such text")

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(cache.get, "labels", model, fail) for _ in range(2)]
        failing.set()
        for future in waiting:
            with pytest.raises(ValueError, match="no such text"):
                future.result(timeout=10)
    assert float(cache.get("labels", model, lambda: torch.tensor(3.0))) == 3.0


def test_a_copy_begins_empty() -> None:
    model, cache = tiny_model(), CandidateCache(limit=1)
    cache.get("labels", model, lambda: torch.tensor(1.0))
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert float(twin.get("labels", model, lambda: torch.tensor(2.0))) == 2.0
        assert float(twin.get("more", model, lambda: torch.tensor(3.0))) == 3.0
        assert float(twin.get("labels", model, lambda: torch.tensor(4.0))) == 4.0  # the limit is the same
    assert float(cache.get("labels", model, lambda: torch.tensor(5.0))) == 1.0


def test_a_copied_model_counts_its_own_generations() -> None:
    model = tiny_model()
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    before = model.weights_generation
    load(other)
    assert other.weights_generation > before == model.weights_generation


def test_what_was_made_while_weights_changed_is_not_kept() -> None:
    model, cache = tiny_model(), CandidateCache()

    def make() -> Tensor:
        model.weights_changed()  # another thread's work
        return torch.tensor(1.0)

    assert float(cache.get("labels", model, make)) == 1.0
    assert float(cache.get("labels", model, lambda: torch.tensor(2.0))) == 2.0
