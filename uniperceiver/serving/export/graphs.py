"""MODEL -> GRAPHS: functions from tensors to tensors around a model, as torch.export traces them.

Shape suffixes: B sequences, N tokens of a text, D width, L layers, h heads, d width of a head, M tokens that are kept,
P pooled contexts, F frames.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.boxes import corners_of
from uniperceiver.modalities import TEXT
from uniperceiver.model.model import Generalist
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.records import Facts, Part, Segment, Sequences, Tokens
from uniperceiver.records.exported import MEDIA_INPUTS
from uniperceiver.serving.export.dense_routing import with_every_expert
from uniperceiver.tasks.decode import prefix_with_query
from uniperceiver.tasks.likelihood import unit
from uniperceiver.tokenizers.regions.decoder import rows


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a graph reads, and where."""

    media: tuple[str, ...] = ()  # "image", "video" or "audio", in the order of the sequence
    text: bool = False
    read_in_text: bool = False
    writes: bool = False
    size: int = 0  # pixels along the side of its pictures
    frames: int = 0  # of its clips
    grid: tuple[int, ...] = ()  # rows and columns of its sounds
    step: float = 0.0  # milliseconds from row to row of these
    masks: bool = False  # of its things

    @property
    def media_inputs(self) -> list[str]:
        """What a graph calls its pictures, clips or sounds; nothing of one that reads texts alone."""
        return [MEDIA_INPUTS[modality] for modality in self.media]


def model_for_export(model: Generalist) -> Generalist:
    """A copy on the CPU whose experts, where values choose them, all compute every token."""
    copied = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    with_every_expert(copied)
    return copied


class ReadingGraph(nn.Module):
    """Inputs to unit representations, (B, D): pictures, clips or sounds, a text, or both.

    Args:
        features: also give what is before it is brought to length one, which a linear head reads.
    """

    def __init__(self, model: Generalist, layout: Layout, facts: Facts, *, features: bool = False) -> None:
        super().__init__()
        self.model, self.layout, self.facts, self.features = model, layout, facts, features

    @property
    def input_names(self) -> list[str]:
        """Names of what it reads, in order."""
        layout = self.layout
        names = layout.media_inputs + (["input_ids", "attention_mask"] if layout.text else [])
        return [*names, "answer_position"] if layout.read_in_text else names

    @property
    def output_names(self) -> list[str]:
        """Names of what it gives: as those of CLIP where there is such a graph."""
        kind = self.layout.media[0] if self.layout.media else "text"
        return [f"{kind}_embeds", "features"] if self.features else [f"{kind}_embeds"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.input_names, inputs, strict=True))
        parts = list(media_parts(self.layout, inputs))
        if self.layout.text:
            ids_BN, valid_BN = named["input_ids"], named["attention_mask"].bool()
            parts.append(Part(modality=TEXT, values=ids_BN, valid_BN=valid_BN))
        sequences = Sequences(facts=self.facts, parts=tuple(parts))
        encoded = self.model.encode(sequences, summary=not self.layout.read_in_text)
        x_BD = encoded.x_BND[:, 0]
        if self.layout.read_in_text:
            # Behind the <SPE> that begins the sequence, where the text is the first segment.
            start = encoded.segments[-1].start + (len(encoded.segments) == 1)
            place_B1D = (named["answer_position"] + start)[:, None, None].expand(-1, 1, encoded.x_BND.shape[2])
            x_BD = encoded.x_BND.gather(1, place_B1D)[:, 0]
        feature_BD = self.model.represent(x_BD)
        z_BD = unit(feature_BD)
        return (z_BD, feature_BD) if self.features else (z_BD,)


class ThingsGraph(nn.Module):
    """Pictures to their proposals, best first: unit representations (B, N, D), logits of being a thing (B, N), corners
    as shares of what is seen (B, N, 4) and, where the model has them, logits of masks (B, N, H, W).
    """

    input_names = ("pixel_values",)

    def __init__(self, model: Generalist, layout: Layout, facts: Facts) -> None:
        super().__init__()
        self.model, self.layout, self.facts = model, layout, facts
        self.output_names = ["proposal_embeds", "objectness", "boxes", *(["masks"] if layout.masks else [])]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        sequences = Sequences(facts=self.facts, parts=tuple(media_parts(self.layout, inputs)))
        encoded = self.model.encode(sequences)
        regions = encoded.regions
        assert regions is not None
        last, chosen_BN = regions.layers[-1], regions.chosen_BN
        x_BND = encoded.x_BND[:, regions.start : regions.start + chosen_BN.shape[1]]
        z_BND = unit(self.model.represent(x_BND))
        boxes = corners_of(rows(last.box_BQ4, chosen_BN))
        masks = [rows(last.mask_BQHW, chosen_BN)] if self.layout.masks and last.mask_BQHW is not None else []
        return z_BND, rows(last.objectness_BQ, chosen_BN), boxes, *masks


class GraphCache:
    """Keys and values as plain tensors, in the place of `KeyValueCache`: nothing is written in place.

    Args:
        past: keys and values of tokens before these, (B, L, 2, h, M, d); None: there are none.
    """

    def __init__(self, past: Tensor | None, pooled: dict[tuple[int, str], Tensor]) -> None:
        self.past, self.pooled, self.merged = past, pooled, None
        self.length = 0 if past is None else past.shape[4]
        self.layers: list[Tensor] = []

    def extend(self, layer: int, key_BhNd: Tensor, value_BhNd: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens so far, the new ones included."""
        if self.past is not None:
            key_BhNd = torch.cat([self.past[:, layer, 0], key_BhNd], dim=2)
            value_BhNd = torch.cat([self.past[:, layer, 1], value_BhNd], dim=2)
        self.layers.append(torch.stack([key_BhNd, value_BhNd], dim=1))
        return key_BhNd, value_BhNd

    def kept(self) -> Tensor:
        """All but the last token, which is the query, (B, L, 2, h, M, d)."""
        return torch.stack(self.layers, dim=1)[:, :, :, :, :-1]


def pools_of(model: nn.Module) -> list[tuple[int, str]]:
    """The routers that look at a pooled context, by layer and part."""
    routers = (module for module in model.modules() if isinstance(module, TokenRouter) and module.pool is not None)
    return [(router.layer, router.part) for router in routers]


class CaptionBegin(nn.Module):
    """Pictures, clips or sounds to what the first word is read from, (B, D), and to what later words look at."""

    def __init__(self, model: Generalist, layout: Layout, facts: Facts) -> None:
        super().__init__()
        self.model, self.layout, self.facts = model, layout, facts
        self.pools = pools_of(model)
        self.input_names = layout.media_inputs
        self.output_names = ["query_embeds", "past", *(["pooled"] if self.pools else [])]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        model, prompts = self.model, self.model.prompts
        seen = Sequences(facts=self.facts, parts=tuple(media_parts(self.layout, inputs)))
        cache = GraphCache(None, {})
        deep = None if prompts is None else prompts.deep("input")
        x_BND = model.encoder(
            model._tokens(prefix_with_query(seen, model.tokenizer.words.answer)), prompts=deep, cache=cache
        ).x_BND
        z_BD = unit(model.represent(x_BND[:, -1]))
        pooled = [torch.stack([cache.pooled[key] for key in self.pools], dim=1)] if self.pools else []
        return z_BD, cache.kept(), *pooled


class CaptionStep(nn.Module):
    """A word more of each text: what the next word is read from, and what later words look at."""

    def __init__(self, model: Generalist, text: Segment) -> None:
        super().__init__()
        self.model, self.text = model, text
        self.pools = pools_of(model)
        more = ["pooled"] if self.pools else []
        self.input_names, self.output_names = ["word", "place", "past", *more], ["query_embeds", "past_out"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        word_B, place, past, *pooled = inputs
        model = self.model
        contexts = dict(zip(self.pools, pooled[0].unbind(1), strict=True)) if self.pools else {}
        cache = GraphCache(past, contexts)
        ids_B2 = torch.stack([word_B, torch.full_like(word_B, model.tokenizer.words.answer)], dim=1)
        position_2 = place + torch.tensor([-1, 0])
        answer_D = None if model.prompts is None else model.prompts.answer
        x_B2D = model.tokenizer.norm(model.tokenizer.words(ids_B2, position_2.expand_as(ids_B2), answer_D))
        tokens = Tokens(
            x_BND=x_B2D,
            segments=(Segment(start=0, stop=2, kind=self.text.kind, causal=True, facts=self.text.facts),),
            order_BN=(position_2 + 1).expand_as(ids_B2),
            query_BN=torch.tensor([False, True]).expand_as(ids_B2),
        )
        x_B2D = model.encoder(tokens, cache=cache).x_BND
        return unit(model.represent(x_B2D[:, 1])), cache.kept()


def media_parts(layout: Layout, inputs: Sequence[Tensor]) -> Iterator[Part]:
    """Pictures (B, C, H, W) are clips of a frame; clips are (B, F, C, H, W), sounds (B, F, M)."""
    for modality, values in zip(layout.media, inputs, strict=False):  # behind them may be those of a text
        yield Part(
            modality=modality,
            values=values[:, None] if modality == "image" else values,
            step=layout.step if modality == "audio" else 0.0,
        )


Graph = ReadingGraph | ThingsGraph | CaptionBegin | CaptionStep
