"""The same data in every format are the same samples, in any process, and parts and lists of them are the same."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.made_data import CLASSES, every_format, items
from uniperceiver.data.formats import Source, class_names, labels_there, open_source
from uniperceiver.data.loader import load
from uniperceiver.data.media.decode import decode_image
from uniperceiver.errors import UserError
from uniperceiver.records import Sample

NAMES = (
    "folder", "files", "csv", "tsv", "jsonl", "parquet of paths", "parquet of bytes", "parquet of both", "huggingface",
    "huggingface of parquet", "coco_captions", "webdataset",
)  # fmt: skip
WITHOUT_CLASSES, WITHOUT_CAPTIONS = {"coco_captions"}, {"folder", "files"}
UNREAD = {"coco_captions", "webdataset"}  # without labels that are known before a sample is read


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, dict[str, Any]]]]:
    """The folder with the data, and a recipe's mapping by format."""
    import datasets

    root = tmp_path_factory.mktemp("every_format")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        yield root, dict(every_format(root))


def opened(made: tuple[Path, dict[str, dict[str, Any]]], name: str, **more: Any) -> Source:
    root, specs = made
    return open_source({**specs[name], **more}, "w", root)


def read(source: Source) -> list[Sample]:
    return [source.read(index) for index in range(len(source))]


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_the_same(made: Any, name: str) -> None:
    source = opened(made, name)
    samples, wanted = read(source), items()
    assert len({sample.id for sample in samples}) == len(wanted)
    assert [sample.image for sample in samples] == [item.data for item in wanted]
    if name not in WITHOUT_CLASSES:
        assert class_names(source) == CLASSES
        assert [CLASSES[sample.label or 0] for sample in samples] == [item.class_name for item in wanted]
    if name not in UNREAD:
        assert labels_there(source) == {sample.label for sample in samples}
        last = opened(made, name, part=[0.9, 1])
        assert labels_there(last) == {sample.label for sample in read(last)}
    if name not in WITHOUT_CAPTIONS:
        line_break = " " if name == "tsv" else "\n"
        captions = [tuple(text.replace("\n", line_break) for text in item.captions) for item in wanted]
        assert [sample.captions for sample in samples] == captions
        assert set(source.texts()) >= {text for texts in captions for text in texts}
    pixels_HWC = decode_image(samples[4].image, "")  # type: ignore[arg-type]
    assert pixels_HWC.tolist() == np.random.default_rng(4).integers(0, 256, size=(16, 24, 3), dtype=np.uint8).tolist()


class ImagesOf:
    """What a loader process makes of a source."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, index: int) -> tuple[str, Any]:
        sample = self.source.read(index)
        return sample.id, sample.image


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_and_other_processes_read_the_same(made: Any, name: str) -> None:
    source = opened(made, name)
    before = read(source)
    assert read(pickle.loads(pickle.dumps(source))) == before
    order = [5, 0, 3, 3, 1]
    assert list(load(ImagesOf(source), iter(order), workers=2)) == [(before[i].id, before[i].image) for i in order]


@pytest.mark.slow
def test_a_fresh_process_reads_a_parquet_file(made: Any) -> None:
    """Spawned, not forked: only what the copy holds is there."""
    source = opened(made, "parquet of both")
    with torch.multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(source.read, [4, 1]) == [source.read(4), source.read(1)]


@pytest.mark.parametrize("name", NAMES)
def test_parts_and_lists_take_the_same_samples(made: Any, name: str) -> None:
    whole = {sample.id: sample.image for sample in read(opened(made, name))}
    some = [sample.image for sample in read(opened(made, name, part=[0.3, 0.8], part_seed=3))]
    assert some == [sample.image for sample in read(opened(made, "folder", part=[0.3, 0.8], part_seed=3))]
    ids = list(whole)
    listed = made[0] / f"{name}.txt"
    listed.write_text(f"./{ids[4]}\n\n{ids[1]}\n{ids[4]}\n", encoding="utf-8")
    chosen = opened(made, name, only=listed.name)
    assert {sample.id: sample.image for sample in read(chosen)} == {ids[k]: whole[ids[k]] for k in (1, 4)}
    assert class_names(chosen) == class_names(opened(made, name))
    both = opened(made, name, only=listed.name, part=[0, 0.5])
    assert len(both) == 1
    listed.write_text(f"{ids[2]}\nno/such.png\n{ids[0]}x\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^w: only: .*:2: 'no/such\.png' names no sample; they are .*{ids[0]}"):
        opened(made, name, only=listed.name)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"webdataset", "parquet of bytes", "huggingface"}))
def test_a_list_may_name_paths(made: Any, name: str) -> None:
    listed = made[0] / "paths.txt"
    listed.write_text("owl/003.png\nhot_air_balloon/000.png\n", encoding="utf-8")
    assert [sample.image for sample in read(opened(made, name, only="paths.txt"))] == [
        items()[number].data for number in (0, 3)
    ]


def test_a_saved_data_set_keeps_the_last_part_of_a_path(made: Any) -> None:
    (made[0] / "names.txt").write_text("004.png\n", encoding="utf-8")
    assert [sample.image for sample in read(opened(made, "huggingface", only="names.txt"))] == [items()[4].data]


def test_a_list_may_name_keys_of_shards(made: Any) -> None:
    (made[0] / "keys.txt").write_text("005\nshard-0000.tar/001\n", encoding="utf-8")
    assert [sample.id for sample in read(opened(made, "webdataset", only="keys.txt"))] == [
        "shard-0000.tar/001",
        "shard-0002.tar/005",
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [(b"\n \n", "names no sample; write one name per line"), (b"a\xff\n", "cannot be read as UTF-8")],
)
def test_what_is_no_list(made: Any, written: bytes, message: str) -> None:
    (made[0] / "bad.txt").write_bytes(written)
    with pytest.raises(UserError, match=f"^w: only: .*{message}"):
        opened(made, "folder", only="bad.txt")
    with pytest.raises(UserError, match=r"^w: only: .*bed\.txt: no such file"):
        opened(made, "folder", only="bed.txt")
