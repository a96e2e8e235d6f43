"""FILES -> VECTORS: the representations of any number of pictures or clips, in numbered parts on the disk.

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
from uniperceiver.modalities import modality_of_file
from uniperceiver.serving.predictor import UniPerceiver

PART = 4096  # files of a part
_FACTS = "embedding.json"
_TRIED = 16  # files of the whole list, where all of a part are broken: whether the list is wrong, or the part
_READERS = {"image": UniPerceiver.encode_image, "video": UniPerceiver.encode_video}


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
    files: Sequence[str],
    out: Path,
    *,
    share: tuple[int, int] = (0, 1),
    size: int = PART,
    task: str | None = None,
    on_files: Callable[[int, int], None] = lambda done, total: None,
) -> EmbeddingDone:
    """Write the parts of a list of files that are not there yet.

    Args:
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
    for name in files:
        if modality_of_file(Path(name).suffix) not in _READERS:
            raise UserError(f"{name}: is no picture and no clip by its name; leave it out of the list")
    _check_same(model, files, out, size)
    mine = range(number, -(-len(files) // size), shares)
    made, errors = 0, dict[str, str]()
    for part in mine:
        path = part_path(out, part)
        if not path.is_file():
            embedded = _embedded(model, part, files[part * size : (part + 1) * size], task)
            if not embedded.files:
                _refuse_if_all_broken(model, embedded, files, task)
            facts = json.dumps({"files": embedded.files, "errors": embedded.errors})  # as one: several have no order
            with whole_file(path) as file:
                file.write(save({"vectors": embedded.vectors_ND}, metadata={"part": facts}))
            made, errors = made + 1, errors | embedded.errors
        on_files(min((part + 1) * size, len(files)), len(files))
    return EmbeddingDone(made=made, there=len(mine) - made, errors=errors)


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


def _embedded(model: UniPerceiver, number: int, files: Sequence[str], task: str | None) -> EmbeddedPart:
    vectors, errors = dict[str, Tensor](), dict[str, str]()
    for start in range(0, len(files), model.batch):
        batch = files[start : start + model.batch]
        for modality, encode in _READERS.items():
            names = [name for name in batch if modality_of_file(Path(name).suffix) == modality]
            try:
                made = encode(model, [Path(name) for name in names], task) if names else torch.empty(0)
                vectors |= zip(names, made, strict=True)
            except UserError:  # of one of them: which, they say one by one
                for name in names:
                    try:
                        vectors[name] = encode(model, Path(name), task)[0]
                    except UserError as error:
                        errors[name] = str(error).removeprefix(f"{name}: ")
    kept = tuple(name for name in files if name in vectors)
    rows = torch.stack([vectors[name] for name in kept]) if kept else torch.empty(0, model.saved.arch.width)
    return EmbeddedPart(number=number, files=kept, vectors_ND=rows.half(), errors=errors)


def _refuse_if_all_broken(model: UniPerceiver, part: EmbeddedPart, files: Sequence[str], task: str | None) -> None:
    """Of a part without a vector: whether a file of the whole list has one, so that it is the part that is broken.

    Raises:
        UserError: none of those that are tried has one: paths begin elsewhere, or the model reads no such files.
    """
    tried = [files[place * len(files) // _TRIED] for place in range(_TRIED)]
    if not _embedded(model, part.number, tuple(dict.fromkeys(tried)), task).files:
        name, reason = next(iter(part.errors.items()))
        raise UserError(f"none of the {len(part.errors)} files of part {part.number} can be used; {name}: {reason}")


def _check_same(model: UniPerceiver, files: Sequence[str], out: Path, size: int) -> None:
    """Write what is embedded by what, or compare it with what the folder says."""
    weights = sha256()
    for name, value in model.model.state_dict().items():
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    facts: dict[str, Any] = {
        "files": len(files),
        "list": sha256("\n".join(files).encode()).hexdigest(),
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
