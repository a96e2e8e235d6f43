"""How often each task is drawn."""

import pytest

from uniperceiver.data.sampling import sampling_weights

SIZES = {"a": 100, "b": 900, "c": 5}


def test_weights_follow_the_sizes_unless_they_are_given() -> None:
    weights = sampling_weights(SIZES, {"a": None, "b": None, "c": 2.0}, 0.5)
    assert weights == pytest.approx({"a": 0.5, "b": 1.5, "c": 2.0})  # sqrt: 10 and 30, scaled to a mean of 1
    assert sampling_weights({"a": 4, "b": 9}, {"a": None, "b": None}, 0.0) == {"a": 1.0, "b": 1.0}
    assert sampling_weights({"a": 4}, {"a": 3.0}, 1.0) == {"a": 3.0}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e9])
def test_it_is_temperature_sampling(temperature: float) -> None:
    weights = sampling_weights(SIZES, dict.fromkeys(SIZES), 1.0 / temperature)
    powers = {name: size ** (1.0 / temperature) for name, size in SIZES.items()}
    total, expected = sum(weights.values()), sum(powers.values())
    assert {name: each / total for name, each in weights.items()} == pytest.approx(
        {name: each / expected for name, each in powers.items()}
    )
    if temperature == 1.0:
        assert weights["b"] / weights["a"] == pytest.approx(9.0)
    if temperature == 1e9:
        assert weights == pytest.approx(dict.fromkeys(SIZES, 1.0))
