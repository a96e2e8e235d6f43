"""ORIGINAL CHECKPOINT -> SAVED MODEL: weights, CLIP's vocabulary, the original's tasks and preprocessing."""

from collections import Counter
from pathlib import Path
from typing import Any

from uniperceiver.data.view import View
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.official.convert import Converted, convert_state
from uniperceiver.model.official.reading import read_state
from uniperceiver.model.official.variant import Given
from uniperceiver.serving import saved as files
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers import bpe

VOCABULARY = Path(bpe.__file__).parent / "clip" / "bpe_simple_vocab_16e6.txt.gz"
_LONGEST_TEXT = 50  # tokens of a caption in the original's training


def convert_checkpoint(path: Path, out: Path, given: Given, vocabulary: Path = VOCABULARY) -> Converted:
    """Convert a checkpoint of the original release into a saved model in the folder `out`.

    Raises:
        UserError: it cannot be read or is not understood whole; `out` holds other files. Nothing is written then.
    """
    files.refuse_foreign(out)
    state = read_state(path)
    codec = _codec(vocabulary, state["token_embed.embeddings.weight"].shape[0], path)
    converted = convert_state(
        state, given, end=codec.end, answer=codec.answer, temperatures=TEMPERATURES, where=str(path)
    )
    view = _view(converted.arch)
    tasks = {name: KnownTask(task=task, index=index, view=view) for index, (name, task) in enumerate(CATALOGUE.items())}
    trained = f"converted from {path.name} of the original release"
    saved = SavedModel(model=converted.model, arch=converted.arch, codec=codec, tasks=tasks, trained=trained)
    files.save(out, saved)
    return converted


def facts_of(converted: Converted) -> dict[str, Any]:
    """What was converted, for people and programs."""
    arch = converted.arch
    reasons = Counter(line.reason for line in converted.lines if line.reason)
    return {
        "layers": arch.layers,
        "width": arch.width,
        "heads": arch.heads,
        "patch": arch.patch,
        "experts": None if arch.moe is None else arch.moe.experts,
        "positions": arch.spatial,
        "parameters": sum(each.numel() for each in converted.model.parameters()),
        "tensors used": sum(line.ours is not None for line in converted.lines),
        "tensors not used": dict(reasons),
    }


def report_of(converted: Converted) -> str:
    """A table of every tensor of the file: its shape, our name, or why it is not used. Tabs between the columns."""
    rows = [
        "\t".join((line.original, "x".join(map(str, line.shape)) or "1", line.ours or "-", line.reason))
        for line in converted.lines
    ]
    return "\n".join(["original\tshape\tours\treason it is not used", *rows]) + "\n"


def _codec(vocabulary: Path, size: int, path: Path) -> bpe.TextEncoder:
    """CLIP's vocabulary with the five tokens of the original, as long as the weights' table.

    Raises:
        UserError: it has another number of entries.
    """
    codec = bpe.clip_text_encoder(vocabulary, literal_specials=True)
    if codec.size != size:
        raise UserError(
            f"{path}: has {size} word vectors, {vocabulary.name} makes {codec.size} entries; give the vocabulary that "
            "it was trained with: --vocabulary FILE"
        )
    return codec


def _view(arch: Architecture) -> View:
    """The original's preprocessing: ImageNet's statistics for images, 0.5 for clips."""
    size = arch.table_grid * arch.patch
    return View(size=size, frames=min(8, arch.max_frames), stride=32, length=min(_LONGEST_TEXT, arch.max_text))
