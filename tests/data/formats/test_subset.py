"""Parts of a source: disjoint, complete, nested, drawn by a seed, and with all classes of the whole."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.tuned import write_pictures
from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.errors import UserError

SCENES = {"format": "scenes", "items": 23, "label": "shape", "pixels": 32}


def part(tmp_path: Path, **keys: Any) -> Source:
    return open_source({**SCENES, **keys}, "here", tmp_path)


def ids(source: Source) -> list[str]:
    return [source.read(index).id for index in range(len(source))]


@pytest.mark.parametrize("borders", [(0.0, 0.8, 1.0), (0.0, 0.1, 0.33, 0.5, 0.97, 1.0)])
def test_parts_cover_all_and_do_not_overlap(tmp_path: Path, borders: tuple[float, ...]) -> None:
    pieces = [ids(part(tmp_path, part=[first, last])) for first, last in pairwise(borders)]
    assert all(pieces)
    assert sum(map(len, pieces)) == 23
    assert {each for piece in pieces for each in piece} == set(ids(part(tmp_path)))


def test_a_part_is_drawn_by_its_seed_and_keeps_the_order_of_the_whole(tmp_path: Path) -> None:
    half, again, other = (ids(part(tmp_path, part=[0, 0.5], part_seed=seed)) for seed in (1, 1, 2))
    whole = ids(part(tmp_path))
    assert half == again
    assert set(half) != set(other)
    assert half == [each for each in whole if each in half]
    assert half != whole[:12]


def test_a_smaller_part_lies_in_a_larger_one(tmp_path: Path) -> None:
    sizes = [set(ids(part(tmp_path, part=[0, share]))) for share in (0.1, 0.3, 0.35, 1)]
    assert [len(each) for each in sizes] == [2, 7, 8, 23]
    assert all(small < large for small, large in pairwise(sizes))


def test_a_part_has_the_classes_of_the_whole_and_its_samples(tmp_path: Path) -> None:
    write_pictures(tmp_path / "hot_things", each=4)
    spec = {"format": "folder", "path": "hot_things"}
    whole, few = (open_source({**spec, **more}, "here", tmp_path) for more in ({}, {"part": [0.9, 1]}))
    assert len(few) == 1
    assert few.classes == whole.classes
    assert class_names(few) == class_names(whole)
    assert list(few.texts()) == list(whole.texts())
    (place,) = [index for index in range(len(whole)) if whole.read(index).id == few.read(0).id]
    assert few.read(0) == whole.read(place)


def test_a_source_without_classes_has_parts_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {number}\n" for number in range(10)))
    few = open_source({"format": "text", "path": "a.txt", "part": [0.5, 1]}, "here", tmp_path)
    assert len(few) == 5
    assert class_names(few) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"part": [0.8, 0.2]}, r"here: part: expected two shares such as \[0, 0.8\], found \[0.8, 0.2\]"),
        ({"part": [0.5, 0.5]}, r"here: part: expected two shares"),
        ({"part": [0, 80]}, r"here: part: expected two shares such as \[0, 0.8\], found \[0, 80\]"),
        ({"part": [-0.1, 1]}, r"here: part: expected two shares"),
        ({"part": [0, 0.01]}, r"here: from 0 to 0.01 of 23 samples there is none; take more"),
        ({"part": 0.5}, r"here: key 'part' has a wrong value 0.5"),
        ({"part_seeds": 1}, r"here: unknown key 'part_seeds'"),
    ],
)
def test_what_is_no_part_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        part(tmp_path, **keys)
    assert "\n" not in str(caught.value)
