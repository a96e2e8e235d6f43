"""The palette: readable in light and dark, and told apart by everybody."""

from itertools import combinations

import numpy as np
import pytest

from uniperceiver.report.parts.colours import DARK, LIGHT, TONES, Theme, tone_of, variables

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def linear(colour: str) -> np.ndarray:
    """Linear red, green and blue, 0 to 1."""
    value_3 = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value_3 <= 0.04045, value_3 / 12.92, ((value_3 + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """As WCAG 2.2 defines it."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def oklab(linear_3: np.ndarray) -> np.ndarray:
    """Ottosson 2020."""
    to_lms = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    to_lms.append([0.0883024619, 0.2817188376, 0.6299787005])
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    to_lab.append([0.0259040371, 0.7827717662, -0.8086757660])
    return np.array(to_lab) @ np.cbrt(np.clip(np.array(to_lms) @ linear_3, 0, None))


@THEMES
@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_tones_can_be_told_apart(theme: Theme, sight: str) -> None:
    seen = [oklab(np.clip(np.array(SIGHT[sight]) @ linear(tone), 0, 1)) for tone in theme.tones]
    assert min(float(np.linalg.norm(first - second)) for first, second in combinations(seen, 2)) > 0.094
    assert min(float(np.linalg.norm(first - second)) for first, second in combinations(seen[:4], 2)) > 0.13


@THEMES
def test_everything_can_be_read_on_its_ground(theme: Theme) -> None:
    assert min(contrast(tone, theme.card) for tone in theme.tones) >= 3
    assert min(contrast(theme.ink, ground) for ground in (theme.helps, theme.hurts, theme.card, theme.ground)) >= 4.5
    assert min(contrast(theme.soft, ground) for ground in (theme.sunk, theme.missing, theme.card)) >= 4
    for text, ground in (
        (theme.good, theme.good_ground),
        (theme.bad, theme.bad_ground),
        (theme.open, theme.open_ground),
    ):
        assert contrast(text, ground) >= 4.5


@THEMES
def test_a_colour_of_a_figure_is_one_variable(theme: Theme) -> None:
    colours = [colour for _, colour in variables(theme)]
    assert len(set(colours)) == len(colours)
    assert dict(variables(theme))["--good-ground"] == theme.good_ground


def test_more_names_than_tones_begin_again_and_unknown_ones_come_last() -> None:
    names = [str(place) for place in range(TONES + 2)]
    assert [tone_of(names, name) for name in names] == [*range(TONES), 0, 1]
    assert tone_of(["a", "b"], "c") == 2
