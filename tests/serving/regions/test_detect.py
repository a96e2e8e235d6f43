"""Which tasks can be asked where things are."""

import pytest

from tests.tiny import tiny_task
from uniperceiver.serving.regions.detect import fits


@pytest.mark.parametrize(
    ("name", "of_boxes", "of_masks"),
    [
        ("object_detection", True, False),
        ("instance_segmentation", True, True),
        ("image_classification", False, False),
        ("image_tagging", False, False),
    ],
)
def test_tasks_of_things_fit_and_of_their_masks_those_that_have_some(name: str, of_boxes: bool, of_masks: bool) -> None:
    assert fits(tiny_task(name), masks=False) == of_boxes
    assert fits(tiny_task(name), masks=True) == of_masks
