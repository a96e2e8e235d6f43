"""TASK + MODEL -> STAGES: the sizes of a task's training batches, and how many tokens these have."""

import dataclasses
import math
from collections.abc import Mapping

from uniperceiver.config import Recipe
from uniperceiver.data.batch import Kept
from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.data.mix import NEVER, Stage
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tokenizers.join import SequenceTokenizer

_OF_WORD, _OF_LABEL = 2, 8  # tokens of a word as a candidate; of a label's text, about
_ROUNDING = 1e-9  # of shares such as 1 - 0.9


def stages_of(
    recipe: Recipe, data: TaskData, weight: float, late: int, codec: TextCodec, tokenizer: SequenceTokenizer
) -> tuple[Stage, ...]:
    """The stages of a task: those of training, and where that drops tokens, one without for what is measured.

    Args:
        weight: of the task, relative to the others.
        late: the step at which `tasks.NAME.late` begins.
        tokenizer: of the model, which tells how many tokens a medium has; its weights may be on the meta device.

    Raises:
        UserError: tokens are to be dropped of which there are none, or of which the model cannot drop any.
    """
    config, last = data.config, data.preprocess
    first = dataclasses.replace(last, size=config.size, frames=config.frames)
    late_batch, late_weight = config.late.batch or config.batch, config.late.weight or weight

    def stage(begins: int, preprocess: Preprocess, batch: int, weight: float, drop: float) -> Stage:
        kept = _kept(data, preprocess, drop, tokenizer)
        cost = _cost(recipe, data, codec, tokenizer, preprocess, batch, kept)
        return Stage(begins=begins, preprocess=preprocess, batch=batch, weight=weight, cost=cost, kept=kept)

    stages = (
        stage(0, first, config.batch, weight, config.drop),
        stage(late, last, late_batch, late_weight, config.drop),
    )
    return (*stages, stage(NEVER, last, late_batch, late_weight, 0.0)) if config.drop else stages


def _kept(data: TaskData, preprocess: Preprocess, drop: float, tokenizer: SequenceTokenizer) -> dict[str, Kept]:
    """How many tokens of each medium are kept; of none anything is dropped where nothing is to be."""
    where = f"tasks.{data.task.name}.drop"
    media = [modality for modality in data.task.modalities if modality != TEXT]
    if drop and not media:
        raise UserError(f"{where}: the task reads no patches, of which some could be dropped; remove the key")
    kept = {}
    for modality in media if drop else ():
        count = _count(modality, preprocess, tokenizer)
        if count is None:
            noun = MODALITIES[modality].noun
            raise UserError(f"{where}: this model makes no patches of the {noun}, of which some are dropped; remove it")
        kept[modality] = Kept(tokens=max(1, math.floor((1 - drop) * count + _ROUNDING)), of=count)
    return kept


def _count(modality: str, preprocess: Preprocess, tokenizer: SequenceTokenizer) -> int | None:
    """How many tokens a medium has, if none is dropped; None: the model's tokenizer does not tell."""
    shape = READERS[modality].shape
    return None if shape is None else tokenizer.count(modality, shape(preprocess))


def _cost(
    recipe: Recipe,
    data: TaskData,
    codec: TextCodec,
    tokenizer: SequenceTokenizer,
    preprocess: Preprocess,
    batch: int,
    kept: Mapping[str, Kept],
) -> float:
    """About how many tokens a batch of a task has, its candidates among them: what it costs beside other batches."""
    answer, task = data.task.answer, data.task

    def tokens(modality: str) -> float:
        if modality == TEXT:
            return preprocess.length
        if modality == task.visual:  # in patches of one frame, as ever, so that batches are dealt as ever
            frames = preprocess.frames if MODALITIES[modality].field == "clip" else 1
            return frames * max(1, preprocess.size // tokenizer.patches.patch) ** 2
        return _count(modality, preprocess, tokenizer) or 1

    shares = {modality: of.tokens / of.of for modality, of in kept.items()}
    inputs = batch * sum(tokens(modality) * shares.get(modality, 1) for modality in task.inputs)
    if answer.among_batch:
        return inputs + batch * tokens(task.target) * shares.get(task.target, 1)
    if answer.from_vocabulary:
        return inputs + _OF_WORD * (recipe.candidates.sample or codec.size)
    return inputs + _OF_LABEL * len(data.task.labels)
