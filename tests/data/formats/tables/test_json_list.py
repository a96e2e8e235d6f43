"""JSON documents as annotation tools write them, and dotted keys."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, notes_of, open_source
from uniperceiver.data.formats.tables.jsonl import lookup
from uniperceiver.errors import BrokenSample, UserError


def opened(root: Path, document: Any, **keys: Any) -> Source:
    for name in ("a.png", "b.png"):
        (root / name).write_text(name)
    (root / "t.json").write_text(json.dumps(document))
    return open_source({"format": "json", "path": "t.json", **keys}, "w", root)


def test_a_list_of_captions(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "caption": ["one", "two"]},
        {"image": "b.png", "caption": "three"},
        "?",
        {"image": "b.png"},
    ]
    source = pickle.loads(pickle.dumps(opened(tmp_path, rows, image="image", captions="caption")))
    assert [source.read(index).captions for index in (0, 1)] == [("one", "two"), ("three",)]
    assert source.read(1).id == "t.json[1]"
    with pytest.raises(BrokenSample, match=r"^t\.json\[2\]: not a JSON object but a str"):
        source.read(2)
    assert notes_of(source)[0] == f"{tmp_path}: 1 caption is empty or damaged and left out"


def test_dotted_keys_go_into_objects_and_lists(tmp_path: Path) -> None:
    images = [
        {"filename": "a.png", "split": "train", "sentences": [{"raw": "one"}, {"raw": "two"}], "cocoid": 7},
        {"filename": "b.png", "split": "val", "sentences": [{"raw": "three"}, {"raw": ""}]},
    ]
    document = {"images": images, "dataset": "flickr8k"}
    keys = {"image": "filename", "captions": "sentences.raw"}
    source = opened(tmp_path, document, items="images", **keys)
    assert [source.read(index).captions for index in range(2)] == [("one", "two"), ("three",)]
    assert len(opened(tmp_path, document, items="images", rows={"split": "val"}, **keys)) == 1
    tool = [
        {"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"choices": [kind]}}]}]}
        for kind in ("cat", "dog")
    ]
    tool[1]["data"]["image"] = "b.png"  # type: ignore[call-overload]
    source = opened(tmp_path, tool, image="data.image", label="annotations.0.result.0.value.choices.0")
    assert (class_names(source), source.read(1).label, source.read(1).image) == (("cat", "dog"), 1, b"b.png")
    talk = [
        {"image": "a.png", "conversations": [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "that"}]}
    ]
    source = opened(tmp_path, talk, image="image", text="conversations.0.value", captions="conversations.1.value")
    assert (source.read(0).text, source.read(0).captions) == ("what?", ("that",))


def test_dotted_keys_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": {"b": "x"}, "k.l": 1}\n{"a": {}, "k.l": 0}\n')
    source = open_source({"format": "jsonl", "path": "t.jsonl", "text": "a.b", "label": "k.l"}, "w", tmp_path)
    assert (source.read(0).text, source.read(0).label) == ("x", 1)
    with pytest.raises(BrokenSample, match=r"^t\.jsonl:2: empty text in column 'a\.b'"):
        source.read(1)


def test_lookup() -> None:
    value = {"a": [{"b": [1, 2]}, {"b": 3}, {}], "a.x": 5}
    assert [lookup(value, key) for key in ("a.b", "a.1.b", "a.0.b.1", "a.9.b", "a.x", "b.c", "a.0.b.c")] == [
        [[1, 2], 3, None], 3, 2, None, 5, None, [None, None]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "keys", "message"),
    [
        ({"images": [{"t": 1}]}, {}, r"t\.json: is no list; set items: images"),
        ({"a": [], "b": []}, {}, "is no list; set key items to the key of one, of a, b"),
        ({"a": 1}, {}, r"set key items to the key of one, of \(none\)"),
        ({"a": {"b": 1}}, {"items": "a.b"}, "has no list under 'a.b'"),
        (["x"], {}, r"no object in the list; expected \[{...}, {...}\]"),
        ([{"txt": 1}], {}, r"t\.json: no column 't'; did you mean 'txt'"),
        ([{"t": {"raw": 1}}], {"text": "t.row"}, r"no column 't\.row'"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, document: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        opened(tmp_path, document, **{"text": "t", **keys})


def test_the_format_that_a_message_names_is_right(tmp_path: Path) -> None:
    for text in ('[{"t": "x"}]', '[\n {"t": "x"}\n]'):
        (tmp_path / "t.jsonl").write_text(text)
        with pytest.raises(UserError, match="this is one JSON document: use format: json"):
            open_source({"format": "jsonl", "path": "t.jsonl", "text": "t"}, "w", tmp_path)
        assert open_source({"format": "json", "path": "t.jsonl", "text": "t"}, "w", tmp_path).read(0).text == "x"


def test_values_of_a_mapping(tmp_path: Path) -> None:
    document = {"a.png17": {"filename": "a.png", "k": "x"}, "b.png4": {"filename": "b.png", "k": "y"}}
    with pytest.raises(UserError, match=r"is no list; set items: '\*' to take its values"):
        opened(tmp_path, document, image="filename", label="k")
    source = opened(tmp_path, document, image="filename", label="k", items="*")
    assert [source.read(index).image for index in range(2)] == [b"a.png", b"b.png"]
