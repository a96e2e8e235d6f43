"""BATCH -> TOKENS: <SPE> and the tokens of every part joined into one sequence under one LayerNorm."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.records import Segment, Sequences, Tokens
from uniperceiver.records.sounds import SoundShape
from uniperceiver.tokenizers.regions.shape import RegionShape
from uniperceiver.tokenizers.regions.tokens import RegionTokenizer
from uniperceiver.tokenizers.sound import SoundTokenizer
from uniperceiver.tokenizers.vision import PatchTokenizer, SpatialPositions
from uniperceiver.tokenizers.words import WordTokenizer


class Shape(Protocol):
    """What tokenizers need to know of a model: fields of its architecture."""

    @property
    def width(self) -> int: ...
    @property
    def patch(self) -> int: ...
    @property
    def patch_frames(self) -> int: ...
    @property
    def stem(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def answer(self) -> int: ...
    @property
    def max_text(self) -> int: ...
    @property
    def max_frames(self) -> int: ...
    @property
    def spatial(self) -> str: ...
    @property
    def reference_grid(self) -> float: ...
    @property
    def table_grid(self) -> int: ...
    @property
    def random_still_row(self) -> bool: ...
    @property
    def frame_offset(self) -> bool: ...
    @property
    def heads(self) -> int: ...
    @property
    def regions(self) -> RegionShape | None: ...
    @property
    def sound(self) -> SoundShape | None: ...


def words_of(shape: Shape) -> WordTokenizer:
    """The tokenizer of texts, which also has the vector of <SPE>."""
    return WordTokenizer(shape.width, vocabulary=shape.vocabulary, max_text=shape.max_text, answer=shape.answer)


def patches_of(shape: Shape) -> PatchTokenizer:
    """The tokenizer of images and clips."""
    spatial = SpatialPositions(
        shape.width, kind=shape.spatial, reference_grid=shape.reference_grid, table_grid=shape.table_grid
    )
    return PatchTokenizer(
        shape.width,
        patch=shape.patch,
        depth=shape.patch_frames,
        stem=shape.stem,
        max_frames=shape.max_frames,
        spatial=spatial,
        random_still_row=shape.random_still_row,
        frame_offset=shape.frame_offset,
    )


def regions_of(shape: Shape) -> RegionTokenizer:
    """The tokenizer of images whose tokens are regions."""
    assert shape.regions is not None
    return RegionTokenizer(shape.width, heads=shape.heads, patch=shape.patch, shape=shape.regions)


def sound_of(shape: Shape) -> SoundTokenizer:
    """The tokenizer of sounds."""
    assert shape.sound is not None
    return SoundTokenizer(shape.width, patch=shape.sound.patch)


USUAL = ("words", "patches")  # those that every model has; others come behind, where its tasks need them
# What they make has a method `embed(part, stream, answer_D) -> (B, N, D)` (proposals: `embed_in`), and where it
# draws weights that are not those of linears, a method `initialise(stream)`. With a method `count(shape)`, which tells
# how many tokens a value of that shape becomes, it embeds those alone that `part.keep_BG` names (DropToken).
TOKENIZERS: dict[str, Callable[[Shape], nn.Module]] = {
    "words": words_of,
    "patches": patches_of,
    "regions": regions_of,
    "sound": sound_of,
}


class SequenceTokenizer(nn.Module):
    """Sequences of any layout become Tokens; the LayerNorm is shared by all modalities.

    Args:
        tokenizers: by the names that rows of modalities.py have as `tokenizer`; "words" also embeds <SPE>.
        instead: another tokenizer for a modality than its row says, by modality.
        marks_answers: whether routing asks where <SPE> stands.
    """

    words: WordTokenizer
    patches: PatchTokenizer

    def __init__(
        self,
        tokenizers: Mapping[str, nn.Module],
        width: int,
        instead: Mapping[str, str] | None = None,
        *,
        marks_answers: bool = False,
    ) -> None:
        super().__init__()
        self.instead, self.marks_answers = dict(instead or {}), marks_answers
        for name, tokenizer in tokenizers.items():
            self.add_module(name, tokenizer)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def tokenizer_of(self, modality: str) -> nn.Module:
        """The tokenizer that embeds a modality in this model."""
        return self.get_submodule(self.instead.get(modality, MODALITIES[modality].tokenizer))

    def count(self, modality: str, shape: Sequence[int]) -> int | None:
        """How many tokens a value of that shape becomes; None: its tokenizer does not tell."""
        count = getattr(self.tokenizer_of(modality), "count", None)
        return None if count is None else count(shape)

    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw the tables of all tokenizers that have some; linears are drawn like all others of the model."""
        for tokenizer in self.children():
            if callable(draw := getattr(tokenizer, "initialise", None)):
                draw(stream)

    def forward(
        self,
        sequences: Sequences,
        stream: torch.Generator | None = None,
        *,
        answer_D: Tensor | None = None,
        labels_KD: Tensor | None = None,
    ) -> Tokens:
        """Tokens of the sequences.

        Args:
            stream: draws what is random in training, such as the temporal offset; None: nothing is.
            answer_D: added to the word vector of every <SPE>.
            labels_KD: a vector for each class, put behind the <SPE> of its names.
        """
        # First, as gradients of the table of words are added up in the order of its uses, turned round.
        prefix_B1D = self.words.prefix(sequences.size, answer_D)
        embedded: list[Tensor] = []
        regions = None
        for part in sequences.parts:
            tokenizer = self.tokenizer_of(part.modality)
            if isinstance(tokenizer, RegionTokenizer):
                proposed = tokenizer.embed_in(sequences, part, stream)
                start = 1 + sum(part_BND.shape[1] for part_BND in embedded)
                regions = replace(proposed.regions, start=proposed.regions.start + start)
                embedded.append(proposed.x_BGD)
            else:
                embedded.append(tokenizer.embed(part, stream, answer_D))  # type: ignore[operator]
        x_BND = self.norm(torch.cat([prefix_B1D, *embedded], dim=1))
        lengths = [part_BND.shape[1] for part_BND in embedded]
        lengths[0] += 1  # <SPE> belongs to the first segment
        if labels_KD is not None and sequences.class_B is not None:
            x_BND = torch.cat([x_BND[:, :1], labels_KD[sequences.class_B][:, None], x_BND[:, 1:]], dim=1)
            lengths[0] += 1
        return Tokens(
            x_BND=x_BND,
            regions=regions,
            segments=tuple(_segments(sequences, lengths)),
            answer_BN=self._answers(sequences, x_BND.shape[1]) if self.marks_answers else None,
            place_B=sequences.place_B,
            planned=sequences.planned,
            valid_BN=_joined([part.valid_BN for part in sequences.parts], lengths, True),
            order_BN=_joined([part.order_BN for part in sequences.parts], lengths, 0),
            query_BN=_joined([part.query_BN for part in sequences.parts], lengths, False),
        )

    def _answers(self, sequences: Sequences, length: int) -> Tensor:
        """Where <SPE> stands in sequences of that many tokens: first, and wherever a text asks; bool (B, N)."""
        text, device = sequences.text, self.norm.weight.device
        answer_BN = (torch.arange(length, device=device) == 0).expand(sequences.size, -1)
        if text is None:
            return answer_BN
        asks_BN = text.values == self.words.answer
        return answer_BN | nn.functional.pad(asks_BN, (length - asks_BN.shape[1], 0))


def _segments(sequences: Sequences, lengths: list[int]) -> Iterator[Segment]:
    start = 0
    for part, length in zip(sequences.parts, lengths, strict=True):
        yield Segment(
            start=start,
            stop=start + length,
            kind=MODALITIES[part.modality].kind,
            causal=part.modality == TEXT and part.order_BN is not None,
            facts=sequences.facts,
        )
        start += length


def _joined(values: list[Tensor | None], lengths: list[int], fill: bool | int) -> Tensor | None:
    """The values of all parts, (B, N); `fill` where a part has none, and for what stands before a part's own tokens."""
    first = next((value_BN for value_BN in values if value_BN is not None), None)
    if first is None:
        return None
    columns = []
    for value_BN, length in zip(values, lengths, strict=True):
        missing = length if value_BN is None else length - value_BN.shape[1]
        columns.append(first.new_full((first.shape[0], missing), fill))
        if value_BN is not None:
            columns.append(value_BN)
    return torch.cat(columns, dim=1)
