"""ORIGINAL CHECKPOINT -> SAVED MODEL: weights, CLIP's vocabulary, the original's tasks and preprocessing."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.atomic import sha256_of
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.official.convert import Converted, Line, NotWhole, convert_original
from uniperceiver.model.official.origin import Origin, decided
from uniperceiver.model.official.reading import read_original
from uniperceiver.model.official.variant import Choices
from uniperceiver.serving import saved as files
from uniperceiver.serving.card import described
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers import bpe, clip_bpe
from uniperceiver.tokenizers.join import USUAL

VOCABULARY = Path(bpe.__file__).parent / "clip" / "bpe_simple_vocab_16e6.txt.gz"
_LONGEST_TEXT = 50  # tokens of a caption in the original's training
_WORDS = "token_embed.embeddings.weight"
_WITHOUT_MERGES = 512 + len(clip_bpe.SPECIALS)  # entries of CLIP's vocabulary before the first merge


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A text encoder, and how much of CLIP's it is."""

    codec: bpe.TextEncoder
    merges: int | None  # of CLIP's; None: it is another one


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written, and what became of each tensor of the file."""

    saved: SavedModel
    converted: Converted


def convert_checkpoint(
    path: Path,
    out: Path,
    choices: Choices,
    *,
    vocabulary: Path = VOCABULARY,
    report: Path | None = None,
    replace: bool = False,
) -> Conversion:
    """Convert a checkpoint of the original release into a saved model in the folder `out`.

    Args:
        vocabulary: CLIP's merges, of which as many are taken as the checkpoint has words, or a tokenizer.json.
        report: where to write what became of every tensor, also when the checkpoint is refused for some of them.
        replace: whether another model in the folder `out` may be replaced.

    Raises:
        UserError: it cannot be read or is not understood whole; `out` holds other files. Nothing else is written then.
    """
    files.refuse_foreign(out)
    _check_place(report, out)
    original = read_original(path)
    if _WORDS not in original.tensors:
        raise UserError(f"{path}: {_WORDS!r} is missing; give a whole checkpoint of the original release")
    words = _vocabulary(vocabulary, len(original.tensors[_WORDS]), path)
    end, answer = words.codec.end, words.codec.answer
    try:
        converted = convert_original(
            original, choices, end=end, answer=answer, temperatures=TEMPERATURES, where=str(path)
        )
    except NotWhole as error:
        _write_report(report, error.lines)
        raise
    saved = _saved(path, converted, words)
    with files.replacing(out, saved, replace=replace):
        _write_report(report, converted.lines)
        files.save(out, saved)
    return Conversion(saved=saved, converted=converted)


def facts_of(conversion: Conversion) -> dict[str, Any]:
    """What was converted, for people and programs."""
    arch, origin, lines = conversion.saved.arch, conversion.saved.origin, conversion.converted.lines
    assert origin is not None
    return {
        "sha256": origin.sha256,
        "layers": arch.layers,
        "width": arch.width,
        "heads": arch.heads,
        "patch": arch.patch,
        "picture size": arch.table_grid * arch.patch,
        "frames": arch.max_frames,
        "vocabulary": arch.vocabulary,
        "of which CLIP's merges": origin.merges,
        **_of_experts(arch),
        "positions": arch.spatial,
        "reference grid": arch.reference_grid,
        "type vector": origin.type_vector,
        "prompts": None if arch.prompts is None else described(arch.prompts),
        "parameters": sum(parameter.numel() for parameter in conversion.saved.model.parameters()),
        "tensors used": sum(line.target is not None for line in lines),
        "tensors not used": dict(Counter(line.reason for line in lines if line.reason)),
    }


def report_of(lines: Iterable[Line]) -> str:
    """A table of every tensor of the file: its shape, our name, or why it is not used. Tabs between the columns."""
    rows = [
        "\t".join((line.original, "x".join(map(str, line.shape)) or "1", line.target or "-", line.reason))
        for line in lines
    ]
    return "\n".join(["original\tshape\tours\treason it is not used", *rows]) + "\n"


def _of_experts(arch: Architecture) -> dict[str, Any]:
    if arch.moe is None:
        return {"experts": None}
    return {
        "experts": arch.moe.experts,
        "attention layers with experts": list(arch.moe.attention_layers),
        "ffn layers with experts": list(arch.moe.ffn_layers),
        "gates of an ffn": arch.moe.ffn_gates,
        "attribute layout": arch.moe.layout,
    }


def _saved(path: Path, converted: Converted, words: Vocabulary) -> SavedModel:
    arch = dataclasses.replace(converted.arch, literal_specials=bool(words.codec.atoms))
    preprocess = _preprocess(arch)
    # The original release was trained on those that it has tokens for, with a temperature of their own family.
    trained = [
        task
        for task in CATALOGUE.values()
        if task.temperature != "downstream" and {MODALITIES[name].tokenizer for name in task.modalities} <= set(USUAL)
    ]
    return SavedModel(
        model=converted.model,
        arch=arch,
        codec=words.codec,
        tasks={
            task.name: KnownTask(task=task, index=index, preprocess=preprocess) for index, task in enumerate(trained)
        },
        trained=f"converted from {path.name} of the original release",
        origin=Origin(
            file=path.name,
            sha256=sha256_of(path),
            type_vector=converted.type_vector,
            merges=words.merges,
            **decided(arch),
        ),
    )


def _vocabulary(path: Path, size: int, checkpoint: Path) -> Vocabulary:
    """The vocabulary with as many entries as there are word vectors.

    Raises:
        UserError: it has another number of entries.
    """
    if path.suffix == ".json":
        codec, merges = bpe.from_file(path), None
    else:
        merges = min(max(size - _WITHOUT_MERGES, 0), clip_bpe.MERGES)
        codec = bpe.clip_text_encoder(path, merges, literal_specials=True)
    if codec.size != size:
        raise UserError(
            f"{checkpoint}: has {size} word vectors, {path.name} makes {codec.size} entries; give the vocabulary that "
            "it was trained with: --vocabulary FILE"
        )
    return Vocabulary(codec=codec, merges=merges)


def _preprocess(arch: Architecture) -> Preprocess:
    """The original's preprocessing: ImageNet's statistics for images, 0.5 for clips."""
    size = arch.table_grid * arch.patch
    return Preprocess(size=size, frames=min(8, arch.max_frames), stride=32, length=min(_LONGEST_TEXT, arch.max_text))


def _check_place(report: Path | None, out: Path) -> None:
    if report is None:
        return
    if report.is_dir() or not report.parent.is_dir():
        raise UserError(f"--report {report}: give a file in a folder that is there")
    if report.resolve().parent == out.resolve():
        raise UserError(f"--report {report}: lies in --out, which is replaced as a whole; give a place beside it")


def _write_report(report: Path | None, lines: Iterable[Line]) -> None:
    if report is None:
        return
    try:
        report.write_text(report_of(lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--report {report}: cannot be written ({error.strerror}); give another file") from None
