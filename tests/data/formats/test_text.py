"""One document per line."""

import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.data.formats import line_index, open_source
from uniperceiver.data.formats.text_file import open_text
from uniperceiver.errors import BrokenSample, UserError


def test_lines_are_documents(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfone two\r\n\r\n \t\n  thr\xc3\xa9e \nfour")
    (tmp_path / "a.txt").write_text("first\n")
    (tmp_path / "c.md").write_text("no\n")
    source = pickle.loads(pickle.dumps(open_source({"format": "text", "path": "."}, "w", tmp_path)))
    samples = [source.read(index) for index in range(len(source))]
    assert [(sample.id, sample.text) for sample in samples] == [
        ("a.txt:1", "first"), ("b.txt:1", "one two"), ("b.txt:4", "thrée"), ("b.txt:5", "four"),
    ]  # fmt: skip
    assert list(source.texts()) == ["first", "one two", "thrée", "four"]
    assert source.classes is None


def test_max_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nb\nc\n")
    source = open_source({"format": "text", "path": "a.txt", "max_documents": 2}, "w", tmp_path)
    assert len(source) == 2
    assert list(source.texts()) == ["a", "b"]


def test_min_words_appends_lines(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("a b\n\nc\nd e f\ng\n")
    source = open_source({"format": "text", "path": ["a.txt", "b.txt"], "min_words": 3}, "w", tmp_path)
    texts = [source.read(index).text for index in range(len(source))]
    assert texts[:4] == ["a b\nc", "c\nd e f", "d e f", "d e f\ng"]
    assert texts[4:] == texts[:4]
    assert [source.read(index).id for index in range(4)] == ["a.txt:1", "a.txt:3", "a.txt:4", "a.txt:5"]


@given(
    st.lists(st.lists(st.sampled_from(["a", "bé", "."]), max_size=4), min_size=1, max_size=12).filter(any),
    st.integers(0, 20),
)
def test_documents_are_the_shortest_runs_of_lines_with_enough_words(texts: list[list[str]], least: int) -> None:
    written = [f"{number}x " + " ".join(words) for number, words in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.txt").write_text("\n\n".join(written), encoding="utf-8")
        source = open_source({"format": "text", "path": "a.txt", "min_words": least}, "w", Path(folder))
        documents = [str(source.read(index).text).split("\n") for index in range(len(source))]
    stripped = [line.strip() for line in written]
    assert len(documents) == len(written)
    for place, document in enumerate(documents):
        first = stripped.index(document[0])
        assert document == stripped[first : first + len(document)]
        assert stripped[place] in document
        words = [len(line.split()) for line in document]
        if first == place:
            assert len(document) == 1 or sum(words[:-1]) < least
        else:  # too little follows: the document ends with the file
            assert sum(len(line.split()) for line in stripped[place:]) < least
        assert sum(words) >= least or len(document) == len(written)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_blocks_of_any_size_find_the_same_lines(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a b\n\n cd  e\n" * 3 + "last")
    monkeypatch.setattr(line_index, "_CHUNK", chunk)
    found = line_index.index_lines(open_text(tmp_path / "a.txt", "utf-8", "w"), "w")
    assert found.number_L.tolist() == [1, 3, 4, 6, 7, 9, 10]
    assert found.words_L.tolist() == [2, 2, 2, 2, 2, 2, 1]
    assert found.start_L.tolist() == [0, 5, 12, 17, 24, 29, 36]
    assert found.stop_L.tolist() == [3, 11, 15, 23, 27, 35, 40]


def test_a_line_that_is_not_utf8_is_a_broken_sample(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\nb\xffd\n\xe3\x80\x80\n")
    source = open_source({"format": "text", "path": "a.txt"}, "w", tmp_path)
    with pytest.raises(BrokenSample, match=r"^a\.txt:2: not valid UTF-8"):
        source.read(1)
    with pytest.raises(BrokenSample, match=r"^a\.txt:3: empty text"):
        source.read(2)
    assert list(source.texts()) == ["good"]


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "no text in it"), (b" \n\n", "no text"), (b"\xff\xfea\0", "UTF-16")]
)
def test_files_without_text(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        open_source({"format": "text", "path": "a.txt"}, "w", tmp_path)
