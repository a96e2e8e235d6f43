"""An order that is computed place by place: a permutation, another one for another key, and as good as shuffled."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_run import small_recipe
from tests.tiny import tiny_codec, tiny_model
from uniperceiver.data import mix
from uniperceiver.data.mix import BatchMaker
from uniperceiver.data.order import KeyedOrder
from uniperceiver.data.tasks import open_tasks
from uniperceiver.runs.training import mixture_of


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 100, 1000, 4097])
def test_every_sample_comes_once(size: int) -> None:
    order = KeyedOrder(size, key=7)
    assert sorted(order[place] for place in range(size)) == list(range(size))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), key=st.integers(0, 2**63 - 1))
def test_any_size_with_any_key_is_a_permutation(size: int, key: int) -> None:
    order = KeyedOrder(size, key)
    assert sorted(order[place] for place in range(size)) == list(range(size))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2**24, 2**62), key=st.integers(0, 2**63 - 1), data=st.data())
def test_places_of_a_large_set_have_samples_of_their_own(size: int, key: int, data: st.DataObject) -> None:
    """A pure function of size, key and place, into the set, and never twice the same."""
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=40, unique=True))
    samples = [KeyedOrder(size, key)[place] for place in places]
    assert len(set(samples)) == len(samples)
    assert all(0 <= sample < size for sample in samples)
    assert samples == [KeyedOrder(size, key)[place] for place in places]


def test_another_key_is_another_order() -> None:
    orders = [[KeyedOrder(1000, key)[place] for place in range(50)] for key in (1, 2, 1)]
    assert orders[0] == orders[2]
    assert sum(one == other for one, other in zip(orders[0], orders[1], strict=True)) < 5


def test_places_say_nothing_of_samples() -> None:
    """Over many keys, a place holds each of ten samples equally often: chi squared, 9 degrees of freedom, p = 1e-4."""
    for place in (0, 3, 9):
        counts = np.bincount([KeyedOrder(10, key)[place] for key in range(3000)], minlength=10)
        assert float(((counts - 300) ** 2 / 300).sum()) < 33.7


def test_a_billion_samples_take_no_memory() -> None:
    order = KeyedOrder(10**9, key=3)
    places = [order[place] for place in range(1000)]
    assert len(set(places)) == 1000
    assert 0.45e9 < float(np.mean(places)) < 0.55e9


def test_large_sets_are_ordered_so_and_small_ones_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(("colours",))
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec(), tiny_model().tokenizer)
    small = BatchMaker(mixture)._order(0, 1)
    assert isinstance(small, np.ndarray)
    monkeypatch.setattr(mix, "MOST_IN_MEMORY", 11)
    large = BatchMaker(mixture)._order(0, 1)
    assert isinstance(large, KeyedOrder)
    assert sorted(large[place] for place in range(12)) == list(range(12))
    (plan,) = mixture.plans(0, [0])[:1]
    _, batch, _ = BatchMaker(mixture)[plan]
    assert batch is not None
