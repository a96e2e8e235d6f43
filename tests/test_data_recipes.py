"""Each recipe in the formats' sections of docs/data.md trains two steps on data that lie as the recipe says."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import made_data
from tests.drawn import write_values
from tests.made_data import Item
from tests.markdown import blocks, section
from tests.small_run import BASE, log_lines, merged
from uniperceiver.config import Recipe
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse

DATA = "docs/data.md"
FORMATS = section(DATA, "## Formats")
RECIPES = [yaml.safe_load(block.text) for block in blocks(DATA, "yaml") if block.text in FORMATS]
SMALL = {"batch": 2, "size": 32, "frames": 2, "stride": 1, "length": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the data that the recipes name."""
    root = tmp_path_factory.mktemp("recipes")
    made, clips = made_data.items(), made_data.items(8, clips=True)
    write_pictures(root, made)
    write_layouts(root, made)
    write_arrays(root)
    write_tags(root, made)
    write_texts(root)
    write_clips(root, clips)
    write_arrow(root, made)
    write_things(root, made)
    return root


def write_things(root: Path, made: list[Item]) -> None:
    """Boxes, polygons and masks of the pictures, which have 24 x 16 pixels, in every format that has such."""
    import datasets

    made_data.write_files(root / "cells", made)
    categories = [{"id": 3 * number, "name": name} for number, name in enumerate(made_data.CLASSES)]
    images = [{"id": n, "file_name": item.file, "width": 24, "height": 16} for n, item in enumerate(made)]
    things = [
        {
            "id": number,
            "image_id": number,
            "category_id": 3 * (1 + number % 2),
            "bbox": [2, 3, 10, 8],
            "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]],
        }
        for number in range(len(made))
    ]
    document = {"images": images, "annotations": things, "categories": categories}
    for split in ("train", "val"):
        (root / f"instances_{split}.json").write_text(json.dumps(document))
    for folder in ("signs/images/train", "signs/images/val", "signs/plain/images"):
        labels = root / folder.replace("images", "labels")
        labels.mkdir(parents=True)
        (root / folder).mkdir(parents=True)
        for number, item in enumerate(made):
            (root / folder / f"{number}.png").write_bytes(item.data)
            (labels / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.4\n")
    splits = {split: f"images/{split}" for split in ("train", "val")}
    (root / "signs/data.yaml").write_text(yaml.safe_dump({**splits, "names": ["stop", "give_way"]}))
    for folder in ("street/JPEGImages", "street/Annotations", "nuclei/images", "nuclei/masks"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>11</ymax></bndbox>"
    mask = np.zeros((16, 24), dtype=np.uint8)
    mask[3:11, 2:12] = 7
    rows = ["image,xmin,ymin,xmax,ymax,class"]
    for number, item in enumerate(made):
        (root / f"street/JPEGImages/{number}.png").write_bytes(item.data)
        (root / f"nuclei/images/{number}.png").write_bytes(item.data)
        text = f"<annotation><object><name>{item.class_name}</name>{box}</object></annotation>"
        (root / f"street/Annotations/{number}.xml").write_text(text)
        for folder in ("nuclei/masks", "parts/masks/leaf", "parts/masks/flower"):
            write_values(root / folder / f"{number}.png", mask)
        rows += [f"{item.file},2,3,12,11,{item.class_name}", f"{item.file},5,5,9,9,owl"]
    (root / "boxes.csv").write_text("\n".join(rows))
    objects = {"bbox": [[2.0, 3.0, 10.0, 8.0]], "category": [1]}
    lines = [json.dumps({"image": item.file, "objects": {**objects, "category": ["owl"]}}) for item in made]
    (root / "products.jsonl").write_text("\n".join(lines))
    names = datasets.ClassLabel(names=["owl", "zebra"])
    features = datasets.Features(
        {"image": datasets.Image(), "objects": {"bbox": [[datasets.Value("float32")]], "category": [names]}}
    )
    rows_of = {"image": [str(root / "cells" / item.file) for item in made], "objects": [objects] * len(made)}
    saved = datasets.Dataset.from_dict(rows_of, features=features)
    datasets.DatasetDict(train=saved).save_to_disk(root / "products")


def write_pictures(root: Path, made: list[Item]) -> None:
    """Folders, lists, COCO captions and tables of pictures."""
    for folder in ("things/train", "things/val", "pictures", "train2014"):
        made_data.write_files(root / folder, made)
    for folder in ("val2014", "lists"):
        (root / folder).mkdir()
    for split, chosen in (("train", made[:4]), ("val", made[4:])):
        made_data.write_coco(root / f"captions_{split}.json", chosen)
        (root / f"lists/{split}.txt").write_text("".join(f"{item.file}\n" for item in chosen))
    made_data.write_csv(root / "captions.csv", made)
    rows = [f"{item.file},{item.class_name},{('train', 'val')[number % 2]}\n" for number, item in enumerate(made)]
    (root / "animals.csv").write_text("".join(["file,class,split\n", *rows]))


def write_layouts(root: Path, made: list[Item]) -> None:
    """Synsets, templates, JSON of annotation tools, captions beside pictures."""
    ids = {name: f"n{number:08d}" for number, name in enumerate(made_data.CLASSES)}
    made_data.write_files(
        root / "synsets",
        [replace(item, file=item.file.replace(item.class_name, ids[item.class_name])) for item in made],
    )
    (root / "synsets.txt").write_text("".join(f"{key} {name}, thing\n" for name, key in ids.items()))
    (root / "synsets.json").write_text(json.dumps({key: f"{name}, thing" for name, key in ids.items()}))
    rows = [f"{item.file.split('/')[1][:3]},pictures/{item.class_name},{ids[item.class_name]}\n" for item in made]
    (root / "synsets.csv").write_text("".join(["id,split,synset\n", *rows]))
    for folder in ("flickr", "drawings"):
        made_data.write_files(root / folder, made)
    for item in made:
        (root / "drawings" / item.file).with_suffix(".txt").write_text("\n".join(item.captions))
    lines = [
        f"{item.file}#{number}\t{' '.join(text.split())}\n"
        for item in made
        for number, text in enumerate(item.captions)
    ]
    (root / "flickr.token").write_text("".join(lines))
    images = [
        {
            "filename": item.file,
            "split": ("train", "val")[number % 2],
            "sentences": [{"raw": text} for text in item.captions],
        }
        for number, item in enumerate(made)
    ]
    (root / "dataset.json").write_text(json.dumps({"images": images}))
    choices = [
        {
            "data": {"image": f"pictures/{item.file}"},
            "annotations": [{"result": [{"value": {"choices": [item.class_name]}}]}],
        }
        for item in made
    ]
    (root / "export.json").write_text(json.dumps(choices))
    talk = [{"image": item.file, "conversations": [{"value": "what?"}, {"value": item.captions[0]}]} for item in made]
    (root / "talk.json").write_text(json.dumps(talk))


def write_tags(root: Path, made: list[Item]) -> None:
    """Several classes of pictures and of texts."""
    rows = [f"{item.file},{item.class_name}|{('small', 'large')[number % 2]}\n" for number, item in enumerate(made)]
    (root / "tags.csv").write_text("".join(["file,tags\n", *rows]))
    (root / "topics.csv").write_text("text,sport,money,weather\na match in the rain,1,0,1\nit is dear,0,1,0\n")


def write_arrays(root: Path) -> None:
    """Digits, cells, and a batch of CIFAR."""
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        for name, shape in (("images-idx3", (4, 28, 28)), ("labels-idx1", (4,))):
            values = np.arange(4) % 2 if len(shape) == 1 else rng.integers(0, 256, shape)
            head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
            data = head + values.astype(np.uint8).tobytes()
            zipped = split == "train"
            (root / f"{split}-{name}-ubyte{'.gz' * zipped}").write_bytes(gzip.compress(data) if zipped else data)
    cells = {f"{split}_images": rng.integers(0, 256, (4, 28, 28, 3), dtype=np.uint8) for split in ("train", "val")}
    cells |= {f"{split}_labels": np.array([[0], [1], [1], [0]]) for split in ("train", "val")}
    np.savez(root / "cells.npz", **cells)
    (root / "data_batch_1.bin").write_bytes(bytes(3073) + b"\1" + bytes(3072))


def write_texts(root: Path) -> None:
    """Documents, and tables of sentences."""
    (root / "books").mkdir()
    for name in ("novels", "held_out", *(f"part-{number:02d}" for number in range(13))):
        (root / f"books/{name}.txt").write_text("It was a bright cold day.\n" * 3)
    for name in ("train", "dev"):
        (root / f"{name}.tsv").write_text("sentence\tlabel\ndull\t0\na joy\t1\n")
    (root / "pairs.tsv").write_text("yes\tit rains\tit is wet\nno\tit rains\tit is dry\n")


def write_clips(root: Path, made: list[Item]) -> None:
    """A list, tables and shards of clips."""
    made_data.write_files(root / "gestures/clips", made)
    for split, chosen in (("train", made[:6]), ("val", made[6:])):
        lines = [f"{item.file}\t{('nodding', 'waving')[number % 2]}\n" for number, item in enumerate(chosen)]
        (root / f"gestures/{split}.txt").write_text("".join(lines))
    made_data.write_files(root / "clips", made)
    for number in range(2):
        rows = [
            {"clip": item.file, "captions": item.captions, "motion": item.class_name} for item in made[4 * number :][:4]
        ]
        (root / f"clips-{number:02d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made_data.write_shards(root / "motions", made, "train-{:04d}.tar")
    made_data.write_shards(root / "motions/val", made)
    (root / "motions/classes.txt").write_text("\n".join(made_data.CLASSES))


def write_arrow(root: Path, made: list[Item]) -> None:
    """Parquet files as on the hub, and a saved data set with two splits."""
    import datasets

    (root / "flowers").mkdir()
    beans = made_data.hugging_face(made)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        beans.to_parquet(root / f"flowers/{name}.parquet")
    beans = beans.rename_column("label", "labels")
    datasets.DatasetDict(train=beans, validation=beans).save_to_disk(root / "beans")


def small(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with a tiny model, two steps and small batches."""
    model = {f"model.{key}": value for key, value in recipe.get("model", {}).items()}
    values = merged(
        BASE, {"tasks": recipe["tasks"], "steps": 2, "evaluation.limit": 2, "evaluation.max_words": 2, **model}
    )
    for task in values["tasks"].values():
        task |= SMALL
        for split in ("train", "val"):
            if task.get(split, {}).get("format") == "scenes":
                task[split] |= {"items": 4}
    return values


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_a_recipe_trains(data: Path, tmp_path: Path, number: int) -> None:
    recipe = parse(Recipe, small(RECIPES[number]), "recipe")
    prepare_run(recipe, data, tmp_path / "run", quiet=True).train()
    steps = log_lines(tmp_path / "run", "train")
    assert steps[-1]["step"] == 2
    assert not [line for line in log_lines(tmp_path / "run", "broken")]


def test_every_format_has_a_recipe_here() -> None:
    from uniperceiver.data.formats import FORMATS as KNOWN

    used = {
        task[split]["format"] for recipe in RECIPES for task in recipe["tasks"].values() for split in ("train", "val")
        if split in task
    }  # fmt: skip
    assert used == set(KNOWN)
