"""The Transformer encoder shared by all modalities, tasks and candidates.

Shape suffixes: B sequences, N tokens of a sequence, T tokens of all sequences in one row, Q of them that are updated,
D width, L layers, P vectors of a prompt.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uniperceiver.model.attention import KeyValueCache, as_bias, visible
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.segment_router import SegmentRouter, decide
from uniperceiver.records import Encoded, Tokens


class Block(nn.Module):
    """x + scale1 * Attention(norm1 x), then x + scale2 * FFN(norm2 x); a branch may be dropped per sample.

    Its parameters are read in its forward, gates included unless the encoder lets them decide ahead.
    """

    def __init__(self, width: int, attention: nn.Module, ffn: nn.Module, layer_scale: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.attention, self.ffn = attention, ffn
        self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    @property
    def linears(self) -> list[nn.Module]:
        """What holds nearly all of its weights: each is called once in a pass, in this order, unless there is a prompt.

        Each reads its weights in its own forward, so that all of them may be sharded as one unit.
        """
        attention, ffn = self.attention, self.ffn
        names = ("experts",) if hasattr(ffn, "experts") else ("linear1", "linear2")
        return [attention.get_submodule("qkv"), attention.get_submodule("out"), *map(ffn.get_submodule, names)]

    def forward(
        self,
        x_TD: Tensor,
        context: ForwardContext,
        mask: Tensor | None,
        keep_2T: Tensor | None,
        prompt_PD: Tensor | None = None,
        *,
        summary: bool = False,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(Q, D): all tokens; with `summary` only the first of every sequence is updated and returned."""
        prompt_PD = None if prompt_PD is None else self.norm1(prompt_PD)
        y = self.attention(self.norm1(x_TD), context, mask, prompt_PD, summary=summary, cache=cache, layer=layer)
        if summary:
            x_TD = context.unpack(x_TD)[:, 0]
            if keep_2T is not None:
                keep_2T = torch.stack([context.unpack(keep_T[:, None])[:, 0, 0] for keep_T in keep_2T])
            context = context.first()
        x = _add(x_TD, self.scale1, y, keep_2T, 0)
        return _add(x, self.scale2, self.ffn(self.norm2(x), context), keep_2T, 1)


def _add(x: Tensor, scale_D: Tensor, branch: Tensor, keep_2T: Tensor | None, which: int) -> Tensor:
    """x + scale * branch, one fused pass over the residual stream."""
    if keep_2T is not None:
        branch = branch * keep_2T[which][:, None]
    return torch.addcmul(x, branch.to(x.dtype), scale_D)


def _mask(tokens: Tokens, prompts: Sequence[Tensor] | None, cache: KeyValueCache | None) -> Tensor | None:
    """What each token sees, as what is added to the attention logits; prompts are seen by all."""
    mask = visible(tokens, cached=0 if cache is None else cache.length)
    if prompts is not None and mask is not None:
        mask = F.pad(mask, (len(prompts[0]), 0), value=True)
    return as_bias(mask, tokens.x_BND)


def _run_again(block: nn.Module, x_TD: Tensor, context: ForwardContext, *rest: Tensor | None, **options: Any) -> Tensor:
    """The block's result; whatever else it computed is forgotten, and computed again in the backward pass.

    Only the first run is told to the pass: the others have a twin of it as it was before, and draw the same numbers.
    """
    before = context.twin()
    passes = chain([context], iter(before.twin, None))
    result: Tensor = checkpoint(
        lambda x_TD: block(x_TD, next(passes), *rest, **options), x_TD, use_reentrant=False, preserve_rng_state=False
    )
    return result


class Encoder(nn.Module):
    """A stack of blocks without a final norm.

    Args:
        token_first: segments are routed apart, so sequences of several segments are encoded token by token
            (`ForwardContext.token_first`).
        whole: routing looks at all tokens of the last layer, so it is computed for all of them even where only the
            first is wanted.
    """

    def __init__(
        self, blocks: list[Block], drop_path: float, *, token_first: bool = False, whole: bool = False
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.drop_path, self.token_first, self.whole = drop_path, token_first, whole
        self.decide_ahead = (
            True  # False: each gate is read in the forward of its block, which may be sharded as one unit
        )
        self.recompute = False  # keep only the input of each block, and run the block again in the backward pass

    def forward(
        self,
        tokens: Tokens,
        stream: torch.Generator | None = None,
        prompts: Sequence[Tensor] | None = None,
        *,
        summary: bool = False,
        cache: KeyValueCache | None = None,
        keep_layers: bool = False,
    ) -> Encoded:
        """Encode the tokens.

        Args:
            stream: draws DropPath and the gates' noise in training; None: nothing is random.
            prompts: (P, D) of each layer, which all its tokens look at.
            summary: only the first token of the last layer is wanted, so only it is computed there.
            cache: keys and values of earlier tokens, which are looked at and to which these are written.
            keep_layers: also return what every layer gives.
        """
        context, layers = self._context_of(tokens, stream, cache), []
        mask, keep_L2T = _mask(tokens, prompts, cache), self._keep(tokens, context)
        x_TD = context.pack(tokens.x_BND)
        cut = len(self.blocks) - 1 if summary and not self.whole else -1
        self._decide(context, cut)
        for index, block in enumerate(self.blocks):
            keep_2T = None if keep_L2T is None else keep_L2T[index]
            prompt_PD = None if prompts is None else prompts[index]
            run = partial(_run_again, block) if self.recompute and torch.is_grad_enabled() else block
            x_TD = run(x_TD, context, mask, keep_2T, prompt_PD, summary=index == cut, cache=cache, layer=index)
            if keep_layers:
                layers.append(x_TD[:, None] if index == cut else context.unpack(x_TD))
        x_BND = x_TD[:, None] if cut >= 0 else context.unpack(x_TD)
        return Encoded(
            x_BND=x_BND[:, :1] if summary else x_BND,
            segments=tokens.segments,
            layers=tuple(layers),
            decisions=tuple(context.decisions),
        )

    def _decide(self, context: ForwardContext, cut: int) -> None:
        """Gates that read no values decide ahead, but not that of an FFN which sees fewer segments."""
        parts = [
            part for block in self.blocks for part in (block.get_submodule("attention"), block.get_submodule("ffn"))
        ]
        routers = [part.router for part in (parts if cut < 0 else parts[:-1])]
        ahead = [router for router in routers if isinstance(router, SegmentRouter)]
        if ahead and self.decide_ahead:
            decide(ahead, context)

    def _context_of(
        self, tokens: Tokens, stream: torch.Generator | None, cache: KeyValueCache | None
    ) -> ForwardContext:
        """What routing may know of these tokens."""
        shared_BN = tokens.valid_BN
        if tokens.order_BN is not None:  # only the prefix is seen by all
            shared_BN = (tokens.order_BN == 0) if shared_BN is None else (tokens.order_BN == 0) & shared_BN
        return ForwardContext(
            sequences=tokens.x_BND.shape[0],
            length=tokens.x_BND.shape[1],
            segments=tokens.segments,
            device=tokens.x_BND.device,
            token_first=self.token_first and len(tokens.segments) > 1,
            valid_BN=tokens.valid_BN,
            shared_BN=shared_BN,
            answer_BN=tokens.answer_BN,
            stream=stream,
            place_B=tokens.place_B,
            planned=tokens.planned,
            pooled={} if cache is None else cache.pooled,
            merged=None if cache is None else cache.merged,
        )

    def _keep(self, tokens: Tokens, context: ForwardContext) -> Tensor | None:
        """DropPath's factors, (L, 2, T): 0 with probability drop_path, else 1 / (1 - drop_path), alike in a sequence.

        Drawn for the batch as it was planned, so that a sample that was left out changes nothing for the others.
        """
        if context.stream is None or self.drop_path == 0.0:
            return None
        planned = tokens.planned or context.sequences
        keep_L2B = torch.rand(len(self.blocks), 2, planned, generator=context.stream) >= self.drop_path
        if tokens.place_B is not None:
            keep_L2B = keep_L2B[:, :, tokens.place_B.cpu()]
        keep_L2B = keep_L2B.to(tokens.x_BND) / (1.0 - self.drop_path)
        if context.token_first:
            return keep_L2B.repeat(1, 1, context.length)
        return keep_L2B.repeat_interleave(context.length, dim=2)
