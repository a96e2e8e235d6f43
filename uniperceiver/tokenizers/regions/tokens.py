"""PICTURES -> TOKENS: some for the whole picture, and a token for each of the best proposals (Uni-Perceiver v2).

    global    [attention pools of F, W_F F + positions], F the coarsest map
    proposal  y + W_B box_vector(box) + W_M vec(28 x 28 mask)                                  (Eq. 2 there)

y is a query of the decoder's last layer. Boxes and masks are taken without gradient: the localisation losses alone
teach them; y is not, so every task teaches the proposals.

Shape suffixes: B pictures, C channels, H W pixels, N proposals that are tokens, G tokens, D width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.records import Part, Sequences
from uniperceiver.records.regions import Objects, ProposalLayer, Regions
from uniperceiver.tokenizers.regions.backbone import Maps, PlainBackbone
from uniperceiver.tokenizers.regions.blocks import PlainAttention
from uniperceiver.tokenizers.regions.decoder import Decoder, best, rows
from uniperceiver.tokenizers.regions.encoder import MapEncoder
from uniperceiver.tokenizers.regions.library import LibraryBackbone
from uniperceiver.tokenizers.regions.masks import small_masks
from uniperceiver.tokenizers.regions.noise import noised
from uniperceiver.tokenizers.regions.places import Grid, box_vectors, positions
from uniperceiver.tokenizers.regions.shape import RegionShape

_FLAT = 49  # most tokens of the coarsest map: 7 x 7 (224 pixels at stride 32)
_MASK_PIXELS = 28 * 28
_RARE_NAME = -math.log(99)  # logit of 0.01: at first, nearly no proposal has a name (RetinaNet, arXiv 1708.02002)


class MapPool(nn.Module):
    """A token for a whole map: the mean of its cells looks at itself and at all of them.

    Source: CLIP (arXiv 2103.00020); positions are computed, so that maps may have any size.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = PlainAttention(width, heads)

    def forward(self, cell_BGD: Tensor, position_GD: Tensor) -> Tensor:
        """(B, 1, D)."""
        mean_B1D = cell_BGD.mean(dim=1, keepdim=True)
        seen_BGD = torch.cat([mean_B1D, cell_BGD + position_GD], dim=1)
        pooled_B1D: Tensor = self.attention(mean_B1D, seen_BGD, seen_BGD)
        return pooled_B1D


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """The tokens of pictures, and the proposals among them."""

    x_BGD: Tensor
    regions: Regions


class RegionTokenizer(nn.Module):
    """Backbone, encoder of its maps, decoder and tokens; the LayerNorm over the sequence belongs to who joins it.

    With `kinds: global` proposals are found, and can be taught, but none is a token, so none can be named.
    """

    def __init__(self, width: int, heads: int, patch: int, shape: RegionShape) -> None:
        super().__init__()
        if width % 8:
            raise ValueError(f"width: {width} is no multiple of 8, which vectors of boxes need")
        self.shape = shape
        self.backbone = (
            PlainBackbone(width, heads, patch, shape)
            if shape.library is None
            else LibraryBackbone(width, shape, shape.library)
        )
        self.encoder = (
            MapEncoder(width, heads, shape.encoder, levels=shape.levels, points=shape.points) if shape.encoder else None
        )
        self.decoder = Decoder(width, heads, shape, fine_channels=self.backbone.fine_channels)
        if shape.kinds != "proposals":
            self.pools = nn.ModuleList(MapPool(width, heads) for _ in range(shape.pooled))
            self.flat = nn.Linear(width, width)
        if shape.kinds != "global":
            self.box = nn.Linear(width, width)
            self.mask = nn.Linear(_MASK_PIXELS, width) if shape.masks else None
        self.name_bias = nn.Parameter(torch.full((), _RARE_NAME)) if shape.name_bias else None

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw the tables, and set the biases that say where refinement begins, after all linear maps were drawn."""
        self.backbone.initialise(stream)
        if self.encoder is not None:
            self.encoder.initialise(stream)
        self.decoder.initialise(stream)
        if self.name_bias is not None:
            self.name_bias.fill_(_RARE_NAME)

    def propose(
        self,
        pixels_BCHW: Tensor,
        stream: torch.Generator | None = None,
        *,
        objects: Objects | None = None,
        place_B: Tensor | None = None,
        planned: int = 0,
        every_mask: bool = True,
    ) -> tuple[Tensor, Regions]:
        """Tokens (B, G, D) of pictures: pooled ones, the coarsest map, proposals by falling objectness.

        `Regions.start` counts from the first of them. With `denoise`, a stream and things there are noised queries;
        tokens and proposals are the same without them.

        Args:
            stream: draws what is random in training; None: nothing is.
            objects: the things in the pictures, of which there are noised queries.
            place_B: as in `records.Sequences`.
            planned: as in `records.Sequences`.
            every_mask: as in `records.Sequences`.
        """
        beside = None
        if self.shape.denoise and stream is not None and objects is not None:
            beside = noised(objects, self.shape.denoise, stream, place_B, planned)
        maps = self.backbone(pixels_BCHW)
        maps = maps if self.encoder is None else self.encoder(maps)
        decoded = self.decoder(maps, beside, every_mask=every_mask)
        last = decoded.layers[-1]
        tokens = [] if self.shape.kinds == "proposals" else self._whole(maps)
        start = sum(part_BGD.shape[1] for part_BGD in tokens)
        chosen_BN = best(last.objectness_BQ, 0 if self.shape.kinds == "global" else self.shape.tokens)
        if self.shape.kinds != "global":
            tokens.append(self._proposals(decoded.query_BQD, last, chosen_BN))
        regions = Regions(
            layers=decoded.layers,
            chosen_BN=chosen_BN,
            start=start,
            name_bias=self.name_bias,
            denoised=decoded.denoised,
        )
        return torch.cat(tokens, dim=1), regions

    def embed_in(self, sequences: Sequences, part: Part, stream: torch.Generator | None = None) -> Proposed:
        """As `propose`, of the part of sequences that holds their pictures."""
        x_BGD, regions = self.propose(
            part.values[:, 0],
            stream,
            objects=sequences.objects,
            place_B=sequences.place_B,
            planned=sequences.planned,
            every_mask=sequences.every_mask,
        )
        return Proposed(x_BGD=x_BGD, regions=regions)

    def _whole(self, maps: Maps) -> list[Tensor]:
        """Tokens (B, G, D) of whole pictures: each pool, then the cells of the coarsest map."""
        map_BDHW, grid = maps.level(-1), maps.grids[-1]
        while grid.cells > _FLAT:
            map_BDHW = F.avg_pool2d(map_BDHW, 2, ceil_mode=True, count_include_pad=False)
            height, width = map_BDHW.shape[2:]
            grid = Grid(rows=height, columns=width, height=2 * grid.height, width=2 * grid.width)
        cell_BGD = map_BDHW.flatten(2).transpose(1, 2)
        position_GD = positions(grid, cell_BGD.shape[2], cell_BGD.device).to(cell_BGD.dtype)
        return [*(pool(cell_BGD, position_GD) for pool in self.pools), self.flat(cell_BGD) + position_GD]

    def _proposals(self, query_BQD: Tensor, last: ProposalLayer, chosen_BN: Tensor) -> Tensor:
        """(B, N, D): tokens of the chosen proposals."""
        box_BN4 = rows(last.box_BQ4.detach(), chosen_BN)
        token_BND = rows(query_BQD, chosen_BN) + self.box(box_vectors(box_BN4, query_BQD.shape[2]).to(query_BQD.dtype))
        if self.mask is not None and last.mask_BQHW is not None:
            small_BNP = small_masks(rows(last.mask_BQHW.detach(), chosen_BN))
            token_BND = token_BND + self.mask(small_BNP.to(query_BQD.dtype))
        return token_BND
