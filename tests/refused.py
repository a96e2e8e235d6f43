"""Commands that must be refused, by what is wrong: what spoils a run or its data, and what the one line says."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.small_run import values_of, write_recipe
from uniperceiver.tokenizers import bpe
from uniperceiver.training import checkpoint

TASKS = ("colours",)
SETTINGS: dict[str, Any] = {"steps": 4, "checkpoint__every": 2}
# Of a folder with the runs `run` and `wide` (of a wider model) and their recipe r.yaml: the words of a command.
Build = Callable[[Path], list[str]]


def going_on(place: Path, *words: str) -> list[str]:
    return ["train", str(place / "r.yaml"), "--out", str(place / "run"), *words]


def anew(place: Path, *words: str) -> list[str]:
    return ["train", str(place / "r.yaml"), "--out", str(place / "new"), *words]


def with_source(source: dict[str, Any], **more: Any) -> Build:
    """A new run on other training data."""

    def build(place: Path) -> list[str]:
        values = values_of(TASKS, **SETTINGS, tasks__colours__val=None, **more)
        values["tasks"]["colours"]["train"] = source
        write_recipe(place / "r.yaml", values)
        for name in ("red/a.png", "blue/b.png"):
            (place / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "pictures" / name).write_bytes(b"of no interest here")
        (place / "empty").mkdir()
        (place / "hollow" / "green").mkdir(parents=True)
        (place / "texts.tsv").write_text("text\tlabel\nfine\tgood\npoor\tbad\n", encoding="utf-8")
        return anew(place)

    return build


def files_of(place: Path, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(place.glob(pattern)) if path.is_file())


def changed(pattern: str, change: Callable[[bytes], bytes], command: Build = going_on) -> Build:
    """A command after some files were changed."""

    def build(place: Path) -> list[str]:
        paths = list(files_of(place, pattern))
        assert paths
        for path in paths:
            path.write_bytes(change(path.read_bytes()))
        return command(place)

    return build


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


def of_newer_version(data: bytes) -> bytes:
    contents = json.loads(data)
    contents["format"] += 1
    if contents.pop("sha256", None):
        contents["sha256"] = checkpoint._own_sha256(contents)
    return json.dumps(contents).encode()


def other_words(size: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        codec = bpe.train(["quite other words than those of the scenes"], size=size, lowercase=True)
        return codec._content.encode()

    return change


def swapped(place: Path) -> list[str]:
    """The checkpoints of the wider model in the folder of the other."""
    shutil.rmtree(place / "run" / "checkpoints")
    shutil.copytree(place / "wide" / "checkpoints", place / "run" / "checkpoints")
    return going_on(place)


def asking(place: Path) -> list[str]:
    return ["predict", str(place / "run"), "classify", "--task", "colours", "--", str(place / "run" / "log.jsonl")]


def starting_from_it(place: Path) -> list[str]:
    return anew(place, "model.start=run")


CHECKPOINT = r"none of its 2 checkpoints is whole; restore one or start a new run elsewhere"
REFUSALS: dict[str, tuple[Build, str]] = {
    "unknown key": (lambda place: anew(place, "optimser.lr=1"), "unknown key 'optimser'; did you mean 'optimiser'?"),
    "misspelt key of a task": (lambda place: anew(place, "tasks.colours.bach=1"), "did you mean 'batch'?"),
    "misspelt key of data": (lambda place: anew(place, "tasks.colours.train.itms=1"), "did you mean 'items'?"),
    "wrong type": (
        lambda place: anew(place, "steps=many"),
        "'steps' has a wrong value 'many': input should be a valid",
    ),
    "wrong type of a section": (lambda place: anew(place, "model=3"), "model must be a mapping of keys to values"),
    "missing path": (
        with_source({"format": "folder", "path": "picturs"}),
        "tasks.colours.train: {place}/picturs: no such file or folder; did you mean 'pictures'?",
    ),
    "empty folder": (
        with_source({"format": "folder", "path": "empty"}),
        "{place}/empty: no class folders; expected a sub-folder per class, named as the class",
    ),
    "class without files": (
        with_source({"format": "folder", "path": "hollow"}),
        "{place}/hollow/green: class folder without files (",
    ),
    "other classes in a split": (
        with_source(
            {"format": "folder", "path": "pictures"},
            tasks__colours__test={"format": "scenes", "items": 3, "label": "shape"},
        ),
        "its classes (7) are not those of train (2): they lack blue, red and also have circle, square, ",
    ),
    "fewer classes than labels": (
        with_source(
            {"format": "tsv", "path": "texts.tsv", "text": "text", "label": "label", "classes": ["good"]},
            tasks__colours__kind="text_classification",
        ),
        "label 'bad' is not in `classes`; ",
    ),
    "a label that no sample has": (
        with_source({"format": "folder", "path": "pictures"}, tasks__colours__labels={"rde": "scarlet"}),
        "tasks.colours.labels: no class 'rde' in the data; did you mean 'red'?",
    ),
    "tokenizer of other weights": (
        changed("run/tokenizer.json", other_words(280)),
        "run/tokenizer.json: does not belong to the weights of {place}/run/checkpoints/step-000004; restore the one",
    ),
    "tokenizer of another size": (
        changed("run/tokenizer.json", other_words(270)),
        "run/tokenizer.json: does not belong to the weights of {place}/run/checkpoints/step-000004; restore the one",
    ),
    "tokenizer of another model": (
        changed("run/model/tokenizer.json", other_words(280), asking),
        "run/model: tokenizer.json does not belong to these weights; restore the one saved with them",
    ),
    "tokenizer of another start": (
        changed("run/model/tokenizer.json", other_words(280), starting_from_it),
        "model.start: {place}/run/model: tokenizer.json does not belong to these weights; restore the one",
    ),
    "truncated checkpoints": (changed("run/checkpoints/*/*", halved), CHECKPOINT),
    "flipped bits": (changed("run/checkpoints/*/model.safetensors", flipped), CHECKPOINT),
    "checkpoint of another size": (swapped, "step-000004: is of another size: "),
    "checkpoint of a newer version": (
        changed("run/checkpoints/step-000004/state.json", of_newer_version),
        "step-000004/state.json: format 2, of a newer uniperceiver (this one reads 1); upgrade it",
    ),
    "run of another recipe": (
        lambda place: going_on(place, "seed=5"),
        "run: holds a run with seed=0, the recipe says 5; use another --out, or the recipe of that run",
    ),
    "truncated model": (changed("run/model/model.safetensors", halved, asking), "truncated or damaged"),
    "truncated start": (changed("run/model/model.safetensors", halved, starting_from_it), "truncated or damaged"),
    "model of a newer version": (
        changed(
            "run/model/config.json", lambda data: of_newer_version(of_newer_version(data)), asking
        ),  # 2 is read, too
        "was written by a newer version of uniperceiver; upgrade to read it",
    ),
    "model of another size": (
        lambda place: (
            shutil.copy(place / "wide" / "model" / "model.safetensors", place / "run" / "model" / "model.safetensors"),
            asking(place),
        )[1],
        "model.safetensors: is of another size than config.json beside it: ",
    ),
}
