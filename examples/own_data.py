"""Write a small data set as the README's recipe wants it: a folder per class, captions, and a picture to ask about."""

import json
import sys
from pathlib import Path

from PIL import Image

from uniperceiver.data.scenes.scene import SHAPES
from uniperceiver.data.scenes.source import ScenesSource

RECIPE = """\
steps: 800
model: {size: nano, patch: 16, stem: conv, vocabulary: 1000}
optimiser: {kind: muon, lr: 0.002}
tasks:
  things:                                       # a name of your choice
    kind: image_classification
    train: {format: folder, path: train}        # train/CLASS/FILE.jpg
    val: {format: folder, path: val}
    augment: {flip: 0.5}                        # a mirrored thing is the same thing
  captions:
    kind: image_captioning
    train: {format: coco_captions, path: captions_train.json, images: train}
    val: {format: coco_captions, path: captions_val.json, images: val}
"""


def write_split(folder: Path, scenes: ScenesSource) -> None:
    """folder/SPLIT/CLASS/NUMBER.png and folder/captions_SPLIT.json."""
    images, annotations = [], []
    for index in range(len(scenes)):
        sample = scenes.read(index)
        name = f"{SHAPES[sample.label or 0]}/{index:05d}.png"
        path = folder / scenes.split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
        images.append({"id": index, "file_name": name})
        annotations += [
            {"id": len(annotations) + k, "image_id": index, "caption": text} for k, text in enumerate(sample.captions)
        ]
    document = {"images": images, "annotations": annotations}
    (folder / f"captions_{scenes.split}.json").write_text(json.dumps(document), encoding="utf-8")


def main(folder: Path, train: int = 5600, val: int = 420) -> None:
    recipe = folder / "recipe.yaml"
    if recipe.is_file() and recipe.read_text(encoding="utf-8") != RECIPE:
        sys.exit(f"{recipe}: is another recipe; name a folder of its own for the data")
    for split, items in (("train", train), ("val", val)):
        write_split(folder, ScenesSource(items=items, split=split, label="shape", objects=1))
    recipe.write_text(RECIPE, encoding="utf-8")
    Image.fromarray(ScenesSource(items=1, split="test", objects=1).read(0).image).save(folder / "photo.png")
    print(f"{folder}: {train} + {val} pictures; now: uniperceiver train {folder}/recipe.yaml --out runs/mine")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "my_data"))
