"""COCO instances as a whole: how many things pictures have, and how they are kept."""

import json
import pickle
from pathlib import Path

from tests.data.formats.objects.test_coco_instances import RING, coco, thing
from uniperceiver.data.formats import open_source, thing_counts


def test_single_things_of_each_picture_are_counted_without_reading(tmp_path: Path) -> None:
    annotations = [thing(), thing(id=13), thing(id=14, iscrowd=1), thing(id=5, image_id=7)]
    source = coco(tmp_path, annotations)
    expected = thing_counts(source)
    assert expected is not None
    counts = {source.files[index]: count for index, count in enumerate(expected.tolist())}
    assert counts == {"a.png": 2, "b.png": 1, "c.png": 0}
    (tmp_path / "some.txt").write_text("c.png\na.png\n")
    words = {"format": "coco_instances", "path": "instances.json", "images": "images", "only": "some.txt"}
    some = thing_counts(open_source(words, "w", tmp_path))
    assert some is not None
    assert sorted(some.tolist()) == [0, 2]


def test_a_large_file_is_kept_in_arrays(tmp_path: Path) -> None:
    """A thing with its outline is fewer bytes than its JSON is letters, and no dict at all."""
    annotations = [thing(id=number, segmentation=[RING], bbox=[number % 40, 5, 20, 10]) for number in range(5_000)]
    source = coco(tmp_path, annotations)
    assert len(source.things) == 5_000
    assert len(pickle.dumps(source)) < len(json.dumps(annotations)) / 1.4
    kept = [value for name in source.__dataclass_fields__ if name != "things" for value in [getattr(source, name)]]
    kept += [getattr(source.things, name) for name in source.things.__dataclass_fields__]
    assert max(len(value) for value in kept if isinstance(value, dict | list | tuple)) < 10
