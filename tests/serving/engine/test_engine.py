"""What the engine says of texts that it has to cut."""

import pytest

from tests.tiny import VIEW
from uniperceiver.serving.engine.engine import _tell_cut
from uniperceiver.serving.saved import KnownTask
from uniperceiver.tasks.catalogue import CATALOGUE

CHOSEN = KnownTask(task=CATALOGUE["text_classification"], index=None, preprocess=VIEW)


def test_a_text_of_just_the_length_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_cut([3, 6, 1], 6, CHOSEN)
    assert capsys.readouterr().err == ""
    _tell_cut([7, 6, 9, 1], 6, CHOSEN)
    said = capsys.readouterr().err
    assert "2 of 4 texts are longer than the 6 tokens that task 'text_classification' reads" in said
    assert "the longest has 9" in said
