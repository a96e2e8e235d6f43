"""The share of the most frequent target."""

import pytest

from uniperceiver.evaluation.chance import majority_share


def test_majority_share_counts_the_most_frequent_target() -> None:
    assert majority_share([3, 1, 3, 2]) == 0.5
    assert majority_share(iter("aab")) == pytest.approx(2 / 3)


def test_no_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="no targets"):
        majority_share([])
