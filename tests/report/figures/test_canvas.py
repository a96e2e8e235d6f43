"""What figures are drawn on, and how they get into a page and into files."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.report.html import EVIL, Page, assert_harmless
from uniperceiver.errors import UserError
from uniperceiver.report.figures import LearningCurve, learning_curves, save_figures
from uniperceiver.report.figures.canvas import Box, Key, grid
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.series import Series


def a_figure(name: str = "birds") -> Figure:
    series = Series(step_N=np.arange(40.0), value_N=np.exp(-np.arange(40) / 9))
    return learning_curves([LearningCurve(name=name, metric="accuracy@1", series=series, chance=0.1, noisy=True)])


def test_equal_figures_are_equal_text() -> None:
    assert inline(a_figure(), "birds") == inline(a_figure(), "birds")


def test_colours_are_variables_and_letters_those_of_the_page() -> None:
    text = inline(a_figure(), "birds")
    assert "var(--tone-0)" in text
    assert "var(--line)" in text
    assert not re.search(r"#[0-9a-f]{6}", text)
    assert "font-family" not in text
    assert 'aria-label="birds"' in text


def test_a_page_may_have_many_figures() -> None:
    """Nothing in them has a name, which would have to be different in each."""
    page = Page(inline(a_figure(), "birds"))
    assert not {"id", "clip-path", "href", "xlink:href"} & {name for name, _ in page.attributes}
    assert not {"use", "defs", "style", "metadata"} & set(page.tags)
    assert page.count("class", "at") == 40


def test_hostile_names_are_texts() -> None:
    text = inline(a_figure(EVIL), EVIL)
    assert_harmless(text)
    assert "{{" in text  # of the label


def test_a_style_of_the_user_changes_nothing_and_is_kept() -> None:
    plain = inline(a_figure(), "birds")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "lines.marker": "x", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        assert inline(a_figure(), "birds") == plain
        assert dict(matplotlib.rcParams) == before


def test_files_are_equal_each_time_and_have_no_date(tmp_path: Path) -> None:
    paths = save_figures({"loss": a_figure()}, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["loss.pdf", "loss.png"]
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in save_figures({"loss": a_figure()}, tmp_path)]
    assert first[0].startswith(b"%PDF")
    assert b"CreationDate" not in first[0]
    assert first[1].startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken: cannot be written .*; name another folder with --figures"):
        save_figures({"loss": a_figure()}, tmp_path / "taken")


def test_a_legend_takes_as_many_lines_as_it_needs() -> None:
    box = Box(width=320, height=100)
    few, many = ([Key(name=f"arm {place}", tone=place % 8) for place in range(count)] for count in (2, 12))
    figures = [grid(["a"], box, columns=1, legend=legend)[0] for legend in ([], few, many)]
    heights = [figure.get_size_inches()[1] for figure in figures]
    assert heights[0] < heights[1] < heights[2]
    assert [text.get_text() for text in figures[1].texts] == ["a", "arm 0", "arm 1"]


def test_the_ground_is_left_to_the_page() -> None:
    assert LIGHT.card not in inline(a_figure(), "")
    assert "var(--card)" not in inline(a_figure(), "")


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    """matplotlib, and pyplot with its global state at any time, stay away from those who draw nothing."""
    program = """
import sys
import uniperceiver, uniperceiver.figures, uniperceiver.cli.runs, uniperceiver.runs.train, uniperceiver.studies.page
assert not {"matplotlib", "jinja2"} & set(sys.modules)
import numpy as np
from uniperceiver.figures import LearningCurve, Series, learning_curves
series = Series(step_N=np.arange(3.0), value_N=np.arange(3.0))
learning_curves([LearningCurve(name="a", metric="loss", series=series)])
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
