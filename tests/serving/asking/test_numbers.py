"""What is said of numbers."""

import pytest

from uniperceiver.errors import UserError
from uniperceiver.serving.asking.numbers import check_caption, refuse_unbounded, tell_cut


def test_cut_texts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tell_cut([3, 4], 4, "colours")
    assert capsys.readouterr().err == ""
    tell_cut([3, 5, 9], 4, "colours")
    said = capsys.readouterr().err
    assert "2 of 3 texts are longer than the 4 tokens that task 'colours' reads" in said
    assert "the longest has 9" in said


def test_no_answer_is_made_of_what_is_not_finite() -> None:
    refuse_unbounded(True, "mend it")
    with pytest.raises(UserError, match="not finite, so it has no answer; its training went wrong: mend it"):
        refuse_unbounded(False, "mend it")


@pytest.mark.parametrize(
    ("values", "says"),
    [((0, 9, 1, 0.0), "beam"), ((10, 9, 1, 0.0), "beam"), ((1, 9, 0, 0.0), "max_words"), ((1, 9, 1, -1.0), "penalty")],
)
def test_captions_out_of_range(values: tuple[int, int, int, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_caption(*values)
