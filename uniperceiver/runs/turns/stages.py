"""TASK + MODEL -> STAGES: the sizes of a task's training batches, and how many tokens these have."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

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
_SIZES = ("size", "frames", "stride", "seconds", "hop", "length")  # keys of shapes and of preprocessing alike
_LEAST = 2  # samples of a batch: a contrast needs something else
_ROUNDING = 1e-9  # of shares such as 1 - 0.9


@dataclass(frozen=True, kw_only=True)
class StageMaker:
    """Makes stages of one task out of sizes.

    Args:
        tokenizer: of the model, which tells how many tokens a medium has; its weights may be on the meta device.
    """

    recipe: Recipe
    data: TaskData
    codec: TextCodec
    tokenizer: SequenceTokenizer

    def stage(
        self,
        preprocess: Preprocess,
        *,
        weight: float,
        begins: int = 0,
        drop: float = 0.0,
        batch: int | None = None,
        where: str = "",
    ) -> Stage:
        """A stage of those sizes.

        Args:
            batch: samples; None: as many as `sampling.tokens` holds, or as the task says.
            where: the key of a shape, for refusals; "": the task itself.

        Raises:
            UserError: tokens are to be dropped of which there are none, or of which the model cannot drop any; not
                even two samples have as few tokens as a batch may have.
        """
        data, recipe, where = self.data, self.recipe, where or f"tasks.{self.data.task.name}"
        kept = _kept(data, preprocess, drop, self.tokenizer, where)
        tokens, budget = self._tokens(preprocess, kept), recipe.sampling.tokens
        if batch is None and budget:
            batch = budget // tokens if begins < NEVER else max(_LEAST, budget // tokens)
            if batch < _LEAST:
                raise UserError(
                    f"sampling.tokens: {budget} hold no {_LEAST} samples of {where}, of {tokens:,} tokens each; write "
                    f"{_LEAST * tokens} or more, or smaller sizes, or more drop"
                )
        batch = batch or data.config.batch
        return Stage(
            begins=begins,
            preprocess=preprocess,
            batch=batch,
            weight=weight,
            cost=_cost(recipe, data, self.codec, self.tokenizer, preprocess, batch, kept),
            kept=kept,
            tokens=tokens,
            name=_named(data, preprocess, drop),
        )

    def _tokens(self, preprocess: Preprocess, kept: Mapping[str, Kept]) -> int:
        """Tokens of a sample's inputs, as known before it is read: <SPE>, what is kept of media, the longest text."""
        task = self.data.task
        counts = [
            kept[modality].tokens if modality in kept else _count(modality, preprocess, self.tokenizer)
            for modality in task.media
        ]
        if self.recipe.sampling.tokens and None in counts:
            noun = MODALITIES[task.media[counts.index(None)]].noun
            raise UserError(
                f"sampling.tokens: this model does not tell the tokens of task {task.name!r}: of its {noun}"
            )
        text = task.answer.most_tokens(task, preprocess.length)
        return 1 + sum(filter(None, counts)) + text + -text % self.recipe.sampling.round


def stages_of(maker: StageMaker, weight: float, late: int) -> tuple[tuple[Stage, ...], tuple[float, ...]]:
    """The stages of a task, and how often each of those that take turns is drawn.

    Where training has other sizes than the task itself, or drops tokens, a last one that is never trained in has the
    task's own sizes: what is measured of a step is measured with them.

    Args:
        weight: of the task, relative to the others.
        late: the step at which `tasks.NAME.late` begins.

    Raises:
        UserError: as `StageMaker.stage`.
    """
    config, own = maker.data.config, maker.data.preprocess
    measured = maker.stage(own, weight=config.late.weight or weight, begins=NEVER, batch=config.late.batch)
    if config.shapes:
        stages = [
            maker.stage(
                dataclasses.replace(own, **{key: size for key in _SIZES if (size := getattr(shape, key)) is not None}),
                weight=weight,
                drop=config.drop if shape.drop is None else shape.drop,
                batch=shape.batch,
                where=f"tasks.{maker.data.task.name}.shapes[{number}]",
            )
            for number, shape in enumerate(config.shapes)
        ]
        return (*stages, measured), (*(shape.weight for shape in config.shapes), 0.0)
    first = dataclasses.replace(own, size=config.size, frames=config.frames)
    stages = [
        maker.stage(first, weight=weight, drop=config.drop),
        maker.stage(own, weight=measured.weight, begins=late, drop=config.drop, batch=config.late.batch),
    ]
    return (*stages, *([measured] if config.drop else [])), ()


def _named(data: TaskData, preprocess: Preprocess, drop: float) -> str:
    """What people call sizes, as "64 px, 16 frames, drop 0.75": those that the task has."""
    task, parts = data.task, []
    if task.visual:
        parts.append(f"{preprocess.size} px")
    if task.visual and MODALITIES[task.visual].field == "clip":
        parts.append(f"{preprocess.frames} frames" + (f" of {preprocess.stride}" if preprocess.stride > 1 else ""))
    if task.hears:
        parts.append(f"{preprocess.seconds:g} s by {preprocess.hop:g} ms")
    if task.answer.most_tokens(task, preprocess.length):
        parts.append(f"{preprocess.length} words")
    return ", ".join([*parts, *([f"drop {drop:g}"] if drop else [])])


def _kept(
    data: TaskData, preprocess: Preprocess, drop: float, tokenizer: SequenceTokenizer, where: str
) -> dict[str, Kept]:
    """How many tokens of each medium are kept; of none anything is dropped where nothing is to be."""
    media = [modality for modality in data.task.modalities if modality != TEXT]
    if drop and not media:
        raise UserError(f"{where}.drop: the task reads no patches, of which some could be dropped; remove the key")
    kept = {}
    for modality in media if drop else ():
        count = _count(modality, preprocess, tokenizer)
        if count is None:
            noun = MODALITIES[modality].noun
            raise UserError(
                f"{where}.drop: this model makes no patches of the {noun}, of which some are dropped; remove it"
            )
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
