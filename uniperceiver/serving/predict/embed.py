"""FILES OR SAMPLES -> VECTORS: representations of any number of pictures or clips, in numbered parts on the disk.

    embedding.json              what is embedded by what: another list, or another model, is refused
    part-00000000.safetensors   float16 vectors of the files 0 to 4,095, their names, and why some have none
    part-00000001.safetensors   ...

A part is whole or not there, and depends on its files and the model alone. So whoever finds it leaves it out: that is
how work goes on after a stop, and how any number of processes share it, which need not know of each other.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from uniperceiver.atomic import whole_file, write_text
from uniperceiver.errors import UserError
from uniperceiver.serving.predict.items import EmbeddedItems, FileItems
from uniperceiver.serving.predictor import UniPerceiver

PART = 4096  # files of a part
_FACTS = "embedding.json"
_TRIED = 16  # files of the whole list, where all of a part are broken: whether the list is wrong, or the part
_READERS = {"image": UniPerceiver.encode_image, "video": UniPerceiver.encode_video, "audio": UniPerceiver.encode_audio}


@dataclass(frozen=True, kw_only=True)
class EmbeddedPart:
    """A part as it lies on the disk."""

    number: int
    files: tuple[str, ...]  # of its vectors, in order
    vectors_ND: Tensor  # float16, of length one
    errors: dict[str, str]  # why other files of it have none


@dataclass(frozen=True, kw_only=True)
class EmbeddingDone:
    """What a call has come to."""

    made: int  # parts
    there: int  # parts that were made before
    errors: dict[str, str]  # of the parts that were made


def embed(
    model: UniPerceiver,
    items: Sequence[str] | EmbeddedItems,
    out: Path,
    *,
    share: tuple[int, int] = (0, 1),
    size: int = PART,
    task: str | None = None,
    on_files: Callable[[int, int], None] = lambda done, total: None,
) -> EmbeddingDone:
    """Write the parts of pictures and clips that are not there yet.

    Args:
        items: a list of files, or samples of a data set.
        share: this process's number and how many there are: it makes every so manieth part.
        size: files of a part.
        task: by whose inputs files are read; None: the model's task that ranks.
        on_files: is told how many files of how many are done.

    Raises:
        UserError: the folder holds vectors of another list or model, or a name is no picture or clip.
    """
    number, shares = share
    if not 0 <= number < shares:
        raise UserError(f"--share {number}/{shares}: the first number is one of 0 to {shares - 1}")
    items = FileItems(items) if isinstance(items, Sequence) else items
    check_same(model, items, out, size)
    mine = range(number, parts_of(items, size), shares)
    made, errors = 0, dict[str, str]()
    for part in mine:
        if not part_path(out, part).is_file():
            made, errors = made + 1, errors | write_part(model, items, part, out, size=size, task=task)
        on_files(min((part + 1) * size, len(items)), len(items))
    return EmbeddingDone(made=made, there=len(mine) - made, errors=errors)


def parts_of(items: EmbeddedItems, size: int = PART) -> int:
    """How many parts there are."""
    return -(-len(items) // size)


def write_part(
    model: UniPerceiver, items: EmbeddedItems, number: int, out: Path, *, size: int = PART, task: str | None = None
) -> dict[str, str]:
    """Write a part, whole or not at all, and tell why some of it have no vector, by name.

    Raises:
        UserError: nothing of it can be used, and nothing of the whole that is tried.
    """
    places = range(number * size, min((number + 1) * size, len(items)))
    embedded = _embedded(model, number, items, places, task)
    if not embedded.files:
        _refuse_if_all_broken(model, embedded, items, task)
    facts = json.dumps({"files": embedded.files, "errors": embedded.errors})  # as one: several have no order
    with whole_file(part_path(out, number)) as file:
        file.write(save({"vectors": embedded.vectors_ND}, metadata={"part": facts}))
    return embedded.errors


def part_path(out: Path, number: int) -> Path:
    """Where a part lies."""
    return out / f"part-{number:08d}.safetensors"


def read_parts(out: str | Path) -> Iterator[EmbeddedPart]:
    """The parts of a folder that are there, in order.

    Raises:
        UserError: the folder holds none.
    """
    paths = sorted(Path(out).glob("part-*.safetensors"))
    if not paths:
        raise UserError(f"{out}: holds no vectors; give the folder that embed wrote")
    for path in paths:
        with safe_open(path, framework="pt") as opened:
            facts = json.loads(opened.metadata()["part"])
            yield EmbeddedPart(
                number=int(path.stem.removeprefix("part-")),
                files=tuple(facts["files"]),
                vectors_ND=opened.get_tensor("vectors"),
                errors=facts["errors"],
            )


def _embedded(
    model: UniPerceiver, number: int, items: EmbeddedItems, places: Sequence[int], task: str | None
) -> EmbeddedPart:
    kept, vectors, errors = list[str](), list[Tensor](), dict[str, str]()
    for start in range(0, len(places), model.batch):
        batch = [items.read(place) for place in places[start : start + model.batch]]
        errors |= {item.name: item.error.removeprefix(f"{item.name}: ") for item in batch if item.error is not None}
        made = dict[int, Tensor]()
        for modality, encode in _READERS.items():
            rows = [row for row, item in enumerate(batch) if item.error is None and item.modality == modality]
            try:
                media = [batch[row].media for row in rows]
                made |= zip(rows, encode(model, media, task) if rows else (), strict=True)  # type: ignore[arg-type]
            except UserError:  # of one of them: which, they say one by one
                for row in rows:
                    try:
                        made[row] = encode(model, batch[row].media, task)[0]  # type: ignore[arg-type]
                    except UserError as error:
                        errors[batch[row].name] = str(error).removeprefix(f"{batch[row].name}: ")
        kept += [batch[row].name for row in sorted(made)]
        vectors += [made[row] for row in sorted(made)]
    vectors_ND = torch.stack(vectors) if kept else torch.empty(0, model.saved.arch.width)
    return EmbeddedPart(number=number, files=tuple(kept), vectors_ND=vectors_ND.half(), errors=errors)


def _refuse_if_all_broken(model: UniPerceiver, part: EmbeddedPart, items: EmbeddedItems, task: str | None) -> None:
    """Of a part without a vector: whether some of the whole have one, so that it is the part that is broken.

    Raises:
        UserError: none of those that are tried has one: paths begin elsewhere, or the model reads no such files.
    """
    tried = sorted({number * len(items) // _TRIED for number in range(_TRIED)})
    if not _embedded(model, part.number, items, tried, task).files:
        name, reason = next(iter(part.errors.items()))
        raise UserError(f"none of the {len(part.errors)} files of part {part.number} can be used; {name}: {reason}")


def check_same(model: UniPerceiver, items: EmbeddedItems, out: Path, size: int = PART) -> None:
    """Write what is embedded by what, or compare it with what the folder says.

    Raises:
        UserError: the folder holds vectors of other files, or by another model.
    """
    weights = sha256()
    for name, value in model.model.state_dict().items():
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    facts: dict[str, Any] = {
        "files": len(items),
        "list": items.fingerprint(),
        "part": size,
        "model": weights.hexdigest(),
    }
    path = out / _FACTS
    out.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_text(path, json.dumps(facts, indent=1) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for key, what in (("list", "another list of files"), ("model", "another model"), ("part", "parts of another size")):
        if before.get(key) != facts[key]:
            raise UserError(f"{out}: holds vectors of {what}; use another --out")
