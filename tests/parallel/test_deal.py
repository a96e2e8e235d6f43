"""Who makes what: every place once, the longest first, alike for everybody who computes it."""

import pytest

from uniperceiver.parallel.deal import deal, idle_share


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_equal_places_go_round(size: int) -> None:
    assert deal([1.0] * 8, size) == [place % size for place in range(8)]


def test_the_longest_go_first_to_who_has_least() -> None:
    costs = [1.0, 7.0, 2.0, 4.0, 2.0]
    ranks = deal(costs, 2)
    assert ranks == [0, 0, 1, 1, 1]  # 7 and 1; 4, 2 and 2
    assert deal(costs, 2) == ranks


@pytest.mark.parametrize("size", [1, 3, 5])
def test_everybody_has_a_place(size: int) -> None:
    assert set(deal([100.0, 1.0, 1.0, 1.0, 1.0], size)) == set(range(size))


def test_free_places_are_dealt_evenly() -> None:
    assert sorted(deal([0.0] * 6, 3)) == [0, 0, 1, 1, 2, 2]


def test_who_waits_for_whom() -> None:
    assert idle_share([2.0, 1.0, 1.0], 2) == 0.0
    assert idle_share([4.0, 1.0, 1.0], 2) == pytest.approx(0.25)
    assert idle_share([3.0], 1) == 0.0
