"""MAPS -> PROPOSALS: cells are chosen by objectness, then a few layers of queries refine their boxes.

Source: the two-stage decoder of Mask DINO (arXiv 2206.02777), without its encoder and without classes: a proposal is
a thing or not (Uni-Perceiver v2, section 4.1).

Shape suffixes: B pictures, S cells of all maps, Q queries, H W pixels of a mask, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.boxes import logit
from uniperceiver.records.regions import ProposalLayer
from uniperceiver.tokenizers.regions.backbone import Maps
from uniperceiver.tokenizers.regions.blocks import ExactLinear, Perceptron, RegionBlock
from uniperceiver.tokenizers.regions.deformable import DeformableAttention
from uniperceiver.tokenizers.regions.masks import MaskHead
from uniperceiver.tokenizers.regions.places import anchors, box_vectors
from uniperceiver.tokenizers.regions.shape import RegionShape

_RARE = -4.0  # bias of objectness: nearly everything is no thing


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder makes of maps."""

    layers: tuple[ProposalLayer, ...]  # the first choice, over all cells and without masks, then each layer
    query_BQD: Tensor  # of the last layer, normalised


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
    """Queries look at points of the maps around their boxes, then at each other."""

    def __init__(self, width: int, heads: int, *, levels: int, points: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.look = DeformableAttention(width, heads, levels=levels, points=points)
        self.block = RegionBlock(width, heads)
        self.head = BoxHead(width)

    def forward(self, query_BQD: Tensor, position_BQD: Tensor, reference_BQ4: Tensor, maps: Maps) -> Tensor:
        """(B, Q, D)."""
        placed_BQD = self.norm(query_BQD) + position_BQD
        query_BQD = query_BQD + self.look(placed_BQD, reference_BQ4, maps.cell_BSD, maps.grids)
        updated_BQD: Tensor = self.block(query_BQD, position_BQD)
        return updated_BQD


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
        self.position = Perceptron(width, width, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, levels=shape.levels, points=shape.points) for _ in range(shape.decoder)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.masks = MaskHead(width, fine_channels) if fine_channels else None

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw what is no linear map, and set what begins otherwise than these."""
        self.rank.normal_(0.0, 0.02, generator=stream)
        self.first.initialise(stream)
        for layer in self.layers:
            layer.look.initialise()  # type: ignore[operator, union-attr]
            layer.head.initialise(stream)  # type: ignore[operator, union-attr]
        if self.masks is not None:
            self.masks.initialise()

    def forward(self, maps: Maps) -> Decoded:
        """Proposals: as many as there are queries, or cells where these are fewer.

        Boxes go from layer to layer without gradient: the loss of a layer teaches that layer.
        """
        query_BQD, reference_BQ4, first = self._first_choice(maps)
        pixel_BDHW = None
        if self.masks is not None:
            assert maps.fine_BCHW is not None
            pixel_BDHW = self.masks.pixels(maps.fine_BCHW, maps.level(0))
        layers, normed_BQD = [first], query_BQD
        for layer in self.layers:
            position_BQD = self.position(box_vectors(reference_BQ4, query_BQD.shape[2]).to(query_BQD.dtype))
            query_BQD = layer(query_BQD, position_BQD, reference_BQ4, maps)
            normed_BQD = self.norm(query_BQD)
            objectness_BQ, box_BQ4 = layer.head(normed_BQD, reference_BQ4)  # type: ignore[operator]
            mask_BQHW = None if self.masks is None else self.masks(normed_BQD, pixel_BDHW)
            layers.append(ProposalLayer(objectness_BQ=objectness_BQ, box_BQ4=box_BQ4, mask_BQHW=mask_BQHW))
            reference_BQ4 = box_BQ4.detach()
        return Decoded(layers=tuple(layers), query_BQD=normed_BQD)

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
    return x_BQX[torch.arange(len(x_BQX), device=x_BQX.device)[:, None], chosen_BN]
