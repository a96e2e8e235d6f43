"""Tables with tabs."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.errors import BrokenSample, UserError


def table(root: Path, written: str, **options: Any) -> Source:
    """A source of that table."""
    (root / "t.tsv").write_bytes(written.encode())
    return open_source({"format": "tsv", "path": "t.tsv", "text": "sentence"} | options, "w", root)


def labels(source: Source) -> list[int | None]:
    """All labels."""
    return [source.read(index).label for index in range(len(source))]


def test_text_and_integer_labels(tmp_path: Path) -> None:
    text = 'sentence\tlabel\r\nsay "hi\t10\r\n\r\n  so "\t2\r\n'
    source = pickle.loads(pickle.dumps(table(tmp_path, text, label="label")))
    assert [source.read(index).text for index in range(len(source))] == ['say "hi', 'so "']
    assert [source.read(index).id for index in range(len(source))] == ["t.tsv:2", "t.tsv:4"]
    assert class_names(source) == ("2", "10")
    assert labels(source) == [1, 0]
    assert list(source.texts()) == ["2", "10", 'say "hi', 'so "']


def test_names_as_labels(tmp_path: Path) -> None:
    text = "label\tsentence\nvery_bad\tx\ngood\ty\n"
    assert table(tmp_path, text, label="label").classes == (("good",), ("very bad",))
    assert labels(table(tmp_path, text, label="label")) == [1, 0]
    assert labels(table(tmp_path, text, label="label", classes=["very_bad", "fair", "good"])) == [0, 2]


def test_given_classes_name_integers(tmp_path: Path) -> None:
    source = table(tmp_path, "sentence\tlabel\nx\t1\n", label="label", classes=["bad", "good"])
    assert class_names(source) == ("bad", "good")
    assert labels(source) == [1]


def test_pairs_and_no_label(tmp_path: Path) -> None:
    source = table(tmp_path, "n\tsentence\tother\n1\ta\tb\n", text_pair="other")
    assert source.read(0).text == "a b"
    assert source.read(0).label is None
    assert source.classes is None


def test_without_header_columns_are_numbers(tmp_path: Path) -> None:
    source = table(tmp_path, "1\ta\n0\tb\n", header=False, text=1, label=0)
    assert [source.read(index).text for index in range(2)] == ["a", "b"]
    assert source.read(0).id == "t.tsv:1"
    assert labels(source) == [1, 0]


def test_pictures_with_captions(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("A")
    source = table(tmp_path, 'f\tc\na.png\tsay "hi\na.png\tso\n', text=None, image="f", captions="c")
    assert len(source) == 1
    assert (source.read(0).image, source.read(0).captions) == (b"A", ('say "hi', "so"))


def test_broken_rows(tmp_path: Path) -> None:
    source = table(tmp_path, "sentence\tlabel\nx\n \t1\ny\t\na\tb\tc\nz\t1\n", label="label")
    for index, reason in enumerate(["1 columns instead of 2", "empty text", "no label", "3 columns"]):
        with pytest.raises(BrokenSample, match=rf"^t\.tsv:{index + 2}: {reason}"):
            source.read(index)
    assert source.read(4).label == 0


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no rows"),
        ("sentence\n", {}, "no rows below the header"),
        ("sentense\tlabel\nx\t1\n", {}, r"no column 'sentence'; did you mean 'sentense'\?"),
        ("sentence,label\nx,1\n", {}, "must be separated by tabs"),
        ("sentence\tlabel\nx\t1\n", {"label": "lable"}, "no column 'lable'; did you mean 'label'"),
        ("sentence\tlabel\nx\t1\n", {"text_pair": "two"}, "no column 'two'"),
        ("sentence\tlabel\nx\t1\n", {"classes": ["a"]}, "key 'classes' needs key 'label'"),
        ("sentence\tlabel\nx\tgud\n", {"label": "label", "classes": ["good"]}, r":2: label 'gud' .*mean 'good'"),
        ("sentence\tlabel\nx\t0\n", {"label": "label", "classes": ["1", "2"]}, "label '0' is not in `classes`"),
        ("sentence\tlabel\nx\t2\n", {"label": "label", "classes": ["a", "b"]}, "label '2' is not in `classes`"),
        ("sentence\tlabel\nx\t\n", {"label": "label"}, "no label in column 'label'"),
        ("sentence\tlabel\nx\ty\n", {"header": False}, "no column 'sentence'; choose one of 0, 1"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        table(tmp_path, text, **options)
