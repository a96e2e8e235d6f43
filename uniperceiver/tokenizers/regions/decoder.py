"""MAPS -> PROPOSALS: cells are chosen by objectness, then a few layers of queries refine their boxes.

Source: the two-stage decoder of Mask DINO (arXiv 2206.02777), without its encoder and without classes: a proposal is
a thing or not (Uni-Perceiver v2, section 4.1).

Shape suffixes: B pictures, S cells of all maps, Q queries, H W pixels of a mask, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.boxes import logit
from uniperceiver.records.regions import Denoised, ProposalLayer
from uniperceiver.tokenizers.regions.backbone import Maps
from uniperceiver.tokenizers.regions.blocks import ExactLinear, Perceptron, RegionBlock
from uniperceiver.tokenizers.regions.deformable import DeformableAttention
from uniperceiver.tokenizers.regions.dense import DenseAttention
from uniperceiver.tokenizers.regions.masks import MaskHead
from uniperceiver.tokenizers.regions.noise import Noised
from uniperceiver.tokenizers.regions.places import anchors, box_vectors
from uniperceiver.tokenizers.regions.shape import RegionShape

OF_QUERIES = "decoder.rank"  # the end of the name of the parameter that has a row for each query
_RARE = -4.0  # bias of objectness: nearly everything is no thing


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder makes of maps."""

    layers: tuple[ProposalLayer, ...]  # the first choice, over all cells and without masks, then each layer
    query_BQD: Tensor  # of the last layer, normalised
    denoised: Denoised | None = None


class BoxHead(nn.Module):
    """Says of every vector whether it is of a thing, and where: a change to a reference box."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.objectness = ExactLinear(width, 1)
        self.box = Perceptron(width, width, width, 4, exact=True)

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Boxes begin as their references; nearly nothing is a thing (RetinaNet: arXiv 1708.02002, section 4.1)."""
        self.objectness.weight.normal_(0.0, 0.01, generator=stream)
        nn.init.constant_(self.objectness.bias, _RARE)
        nn.init.zeros_(self.box.last.weight)
        nn.init.zeros_(self.box.last.bias)

    def forward(self, x_BQD: Tensor, reference_Q4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q) float32 logits of being a thing, and (B, Q, 4) float32 boxes."""
        return self.objectness(x_BQD).squeeze(-1), (logit(reference_Q4) + self.box(x_BQD)).sigmoid()


class DecoderLayer(nn.Module):
    """Queries look at the maps, around their boxes or everywhere, then at each other."""

    def __init__(self, width: int, heads: int, shape: RegionShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.look: DeformableAttention | DenseAttention
        if shape.attention == "deformable":
            self.look = DeformableAttention(width, heads, levels=shape.levels, points=shape.points)
        else:
            self.look = DenseAttention(width, heads, relative=shape.attention == "dense_rpb")
        self.block = RegionBlock(width, heads)
        self.head = BoxHead(width)

    def looked(self, query_BQD: Tensor, position_BQD: Tensor, reference_BQ4: Tensor, maps: Maps) -> Tensor:
        """(B, Q, D): the queries once they have looked at the maps; `block` comes next."""
        placed_BQD = self.norm(query_BQD) + position_BQD
        seen_BQD: Tensor = self.look(placed_BQD, reference_BQ4, maps.cell_BSD, maps.grids)
        return query_BQD + seen_BQD


class Decoder(nn.Module):
    """Proposals of every picture, refined layer by layer.

    Args:
        fine_channels: of the map that masks are drawn on; 0: proposals have no masks.
    """

    def __init__(self, width: int, heads: int, shape: RegionShape, *, fine_channels: int) -> None:
        super().__init__()
        self.first = BoxHead(width)
        self.content = nn.Linear(width, width)
        self.rank = nn.Parameter(torch.empty(shape.queries, width).normal_(0.0, 0.02))
        if shape.denoise:
            self.noised = nn.Parameter(torch.empty(width).normal_(0.0, 0.02))  # the content of every noised query
        self.position = Perceptron(width, width, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, shape) for _ in range(shape.decoder))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.masks = MaskHead(width, fine_channels) if fine_channels else None

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw what is no linear map, and set what begins otherwise than these."""
        self.rank.normal_(0.0, 0.02, generator=stream)
        if hasattr(self, "noised"):
            self.noised.normal_(0.0, 0.02, generator=stream)
        self.first.initialise(stream)
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            layer.look.initialise()
            layer.head.initialise(stream)
        if self.masks is not None:
            self.masks.initialise()

    def forward(self, maps: Maps, noised: Noised | None = None, *, every_mask: bool = True) -> Decoded:
        """Proposals: as many as there are queries, or cells where these are fewer.

        Boxes go from layer to layer without gradient: the loss of a layer teaches that layer.

        Args:
            noised: boxes that are refined beside the proposals, which do not see them.
            every_mask: make the masks of all layers, and of noised boxes; False: only those of the last layer, which
                are parts of tokens.
        """
        query_BQD, reference_BQ4, first = self._first_choice(maps)
        pixel_BDHW = None
        if self.masks is not None:
            assert maps.fine_BCHW is not None
            pixel_BDHW = self.masks.pixels(maps.fine_BCHW, maps.level(0))
        layers, normed_BQD, looks = [first], query_BQD, []
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, DecoderLayer)
            position_BQD = self._positions(reference_BQ4, query_BQD)
            looked_BQD = layer.looked(query_BQD, position_BQD, reference_BQ4, maps)
            looks.append((looked_BQD, position_BQD))
            query_BQD = layer.block(looked_BQD, position_BQD)
            normed_BQD = self.norm(query_BQD)
            pixels = pixel_BDHW if every_mask or number == len(self.layers) else None
            layers.append(self._answers(layer, normed_BQD, reference_BQ4, pixels))
            reference_BQ4 = layers[-1].box_BQ4.detach()
        denoised = None if noised is None else self._denoised(noised, maps, pixel_BDHW if every_mask else None, looks)
        return Decoded(layers=tuple(layers), query_BQD=normed_BQD, denoised=denoised)

    def _denoised(
        self, noised: Noised, maps: Maps, pixel_BDHW: Tensor | None, looks: Sequence[tuple[Tensor, Tensor]]
    ) -> Denoised:
        """What the layers make of noised boxes.

        Args:
            looks: the proposals in each layer once they have looked at the maps, and their positions.
        """
        query_BMD, reference_BM4 = self.noised.expand(*noised.thing_BM.shape, -1), noised.box_BM4
        mask = noised.visible(looks[0][0].shape[1])
        layers = []
        for layer, proposals in zip(self.layers, looks, strict=True):
            assert isinstance(layer, DecoderLayer)
            position_BMD = self._positions(reference_BM4, query_BMD)
            looked_BMD = layer.looked(query_BMD, position_BMD, reference_BM4, maps)
            query_BMD = layer.block(looked_BMD, position_BMD, proposals, mask)
            layers.append(self._answers(layer, self.norm(query_BMD), reference_BM4, pixel_BDHW))
            reference_BM4 = layers[-1].box_BQ4.detach()
        return Denoised(layers=tuple(layers), thing_BM=noised.thing_BM, real_BM=noised.real_BM, groups=noised.groups)

    def _positions(self, reference_BQ4: Tensor, query_BQD: Tensor) -> Tensor:
        """(B, Q, D): where queries are, for attention."""
        vectors_BQD = box_vectors(reference_BQ4, query_BQD.shape[2])
        positions_BQD: Tensor = self.position(vectors_BQD.to(query_BQD.dtype))
        return positions_BQD

    def _answers(
        self, layer: DecoderLayer, normed_BQD: Tensor, reference_BQ4: Tensor, pixel_BDHW: Tensor | None
    ) -> ProposalLayer:
        """What a layer says of its queries; of masks nothing without pixels."""
        objectness_BQ, box_BQ4 = layer.head(normed_BQD, reference_BQ4)
        mask_BQHW = None if self.masks is None or pixel_BDHW is None else self.masks(normed_BQD, pixel_BDHW)
        return ProposalLayer(objectness_BQ=objectness_BQ, box_BQ4=box_BQ4, mask_BQHW=mask_BQHW)

    def _first_choice(self, maps: Maps) -> tuple[Tensor, Tensor, ProposalLayer]:
        """Queries (B, Q, D) and their boxes (B, Q, 4) from the most promising cells, and what is said of all cells."""
        cell_BSD = maps.cell_BSD
        objectness_BS, box_BS4 = self.first(cell_BSD, anchors(maps.grids, cell_BSD.device))
        chosen_BQ = best(objectness_BS, len(self.rank))
        content_BQD = self.content(rows(cell_BSD.detach(), chosen_BQ)) + self.rank[: chosen_BQ.shape[1]]
        first = ProposalLayer(objectness_BQ=objectness_BS, box_BQ4=box_BS4)
        return content_BQD, rows(box_BS4.detach(), chosen_BQ), first


def best(objectness_BQ: Tensor, most: int) -> Tensor:
    """(B, N) int64: where objectness is largest, falling; the first of equals first. All, where there are fewer."""
    return objectness_BQ.detach().argsort(dim=1, descending=True, stable=True)[:, :most]


def rows(x_BQX: Tensor, chosen_BN: Tensor) -> Tensor:
    """(B, N, ...): the chosen rows of every picture."""
    return x_BQX[torch.arange(x_BQX.shape[0], device=x_BQX.device)[:, None], chosen_BN]
