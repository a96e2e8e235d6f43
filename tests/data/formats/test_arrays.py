"""Pictures in arrays: idx, npz, npy, CIFAR; and the conversion that a message names."""

import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uniperceiver.data.formats import Source, class_names, labels_there, open_source
from uniperceiver.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as MNIST has it."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def opened(root: Path, **keys: Any) -> Source:
    return open_source({"format": "arrays", **keys}, "w", root)


def test_idx_npy_and_npz_are_the_same(tmp_path: Path) -> None:
    labels = np.array([7, 3, 7, 9, 3], dtype=np.uint8)
    (tmp_path / "i").write_bytes(idx(GREY))
    (tmp_path / "l").write_bytes(idx(labels))
    np.save(tmp_path / "i.npy", GREY[..., None])
    np.save(tmp_path / "l.npy", labels)
    np.savez(tmp_path / "a.npz", x=GREY, y=labels[:, None])
    npz = {"path": "a.npz", "images": "x", "labels": "y"}
    for keys in ({"path": "i", "labels": "l"}, {"path": "i.npy", "labels": "l.npy"}, npz):
        source = pickle.loads(pickle.dumps(opened(tmp_path, **keys)))
        assert class_names(source) == ("3", "7", "9")
        samples = [source.read(index) for index in range(5)]
        assert [sample.label for sample in samples] == [1, 0, 1, 2, 0]
        assert all(
            np.array_equal(sample.image, np.repeat(GREY[i, :, :, None], 3, 2)) for i, sample in enumerate(samples)
        )
        assert samples[2].id == f"{keys['path']}:2"
    names = [str(number) for number in range(10)]
    assert opened(tmp_path, path="i", labels="l", classes=names).read(0).label == 7
    assert opened(tmp_path, path="i").classes is None
    for count in (5, 9):  # of which label 9 would be the tenth
        with pytest.raises(UserError, match=f"labels 3 to 9 for {count} classes; list all classes"):
            opened(tmp_path, path="i", labels="l", classes=names[:count])


def test_labels_for_each_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]))
    source = opened(tmp_path, path="a.npz", labels="labels")
    assert class_names(source) == ("0", "1", "2")
    samples = [source.read(index) for index in range(3)]
    assert [(sample.label, sample.labels) for sample in samples] == [(None, (0, 2)), (1, ()), (None, ())]
    assert labels_there(source) == {0, 1, 2}
    (tmp_path / "first.txt").write_text("a.npz:0")
    assert labels_there(opened(tmp_path, path="a.npz", labels="labels", only="first.txt")) == {0, 2}
    with pytest.raises(UserError, match="labels for 3 classes, but 2 are named"):
        opened(tmp_path, path="a.npz", labels="labels", classes=["x", "y"])


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar(tmp_path: Path, labels: int) -> None:
    red = bytes([255]) * 1024 + bytes(2048)
    (tmp_path / "b.bin").write_bytes(b"".join(bytes([9] * (labels - 1) + [label]) + red for label in (4, 2)))
    source = opened(tmp_path, path="b.bin")
    assert (class_names(source), source.read(0).label) == (("2", "4"), 1)
    assert np.asarray(source.read(1).image)[5, 7].tolist() == [255, 0, 0]


def test_a_pickle_is_refused_with_a_conversion_that_works(tmp_path: Path) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (3, 3072), dtype=np.uint8)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": pictures, b"labels": [2, 0, 2]}))
    with pytest.raises(UserError, match="a pickle, which is never read") as refused:
        opened(tmp_path, path="data_batch_1")
    command = shlex.split(str(refused.value)[str(refused.value).index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    source = opened(tmp_path, path="data_batch_1.npz", labels="labels")
    assert np.array_equal(source.read(1).image, pictures[1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert [source.read(index).label for index in range(3)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "write", "keys", "message"),
    [
        ("a.npz", {"x": GREY}, {}, "no array 'images'; choose one of x"),
        ("a.npz", {"images": GREY.astype(float)}, {}, r"shape \(5, 4, 6\) and type float64; expected"),
        ("a.npz", {"images": GREY, "y": np.full((5, 2), 2)}, {"labels": "y"}, r"labels of shape \(5, 2\)"),
        ("a.npz", {"images": np.array([None])}, {}, "cannot be read .*arrays of objects are never read"),
        ("a.npz", {"images": GREY}, {"classes": ["x"]}, "key 'classes' needs labels"),
        ("a.npz", b"PK", {}, "not an .npz file"),
        ("a.bin", b"x" * 100, {}, "100 bytes are no CIFAR batch"),
        ("a", idx(GREY)[:-1], {}, "is not as long as its header says"),
        ("a", bytes([0, 0, 13]) + idx(GREY)[3:-2], {}, "is not as long as its header says"),
        ("a.gz", b"x", {}, "cannot be read"),
        ("a", b"hello", {}, "not an idx, .npy, .npz or CIFAR .bin file"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, name: str, write: Any, keys: dict[str, Any], message: str) -> None:
    if isinstance(write, bytes):
        (tmp_path / name).write_bytes(write)
    else:
        np.savez(tmp_path / name, **write)
    with pytest.raises(UserError, match=rf"^w: {re.escape(str(tmp_path / name))}: .*{message}"):
        opened(tmp_path, path=name, **keys)
