"""Multi-head self-attention over Tokens, its visibility masks, and the cache of keys and values for generation.

Shape suffixes: B sequences, N tokens, M tokens that may be looked at, Q tokens that look, h heads, d width of a head,
D width, L layers, P vectors of a prompt, T tokens of all sequences in one row, X any.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.route import Route
from uniperceiver.records import Segment, Tokens


def visible(tokens: Tokens, cached: int = 0) -> Tensor | None:
    """Which token may look at which, bool (B, 1, 1 or N, M); None when every token may look at every token.

    Padding is never looked at. In causal text, a sees b if both stand in the prefix, or if b is a word of smaller
    order, or if a is b: words see the words before them, a query sees the words before its own word, and nobody
    sees a query (efficient auto-regressive training, Uni-Perceiver v1, appendix B). `cached` tokens that were encoded
    before these stand in front.
    """
    mask = None if tokens.valid_BN is None else tokens.valid_BN[:, None, :]
    if tokens.order_BN is not None:
        assert tokens.query_BN is not None
        looking, seen = tokens.order_BN[:, :, None], tokens.order_BN[:, None, :]
        before = ~tokens.query_BN[:, None, :] & (seen < looking)
        causal = (seen == 0) | before | torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
        mask = causal if mask is None else causal & mask
    # Cached tokens are the prefix and words of smaller order: all visible.
    return None if mask is None else F.pad(mask[:, None], (cached, 0), value=True)


def as_bias(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """The mask as numbers to be added to the scores, for all layers of a pass over `x` at once.

    From a bool mask the fused kernel would make them anew in every layer, and filling scores is slow in 16 bit.
    """
    if mask is None:
        return None
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    hidden = float("-inf") if _fused(kind, dtype) else torch.finfo(dtype).min
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, hidden)


def _fused(kind: str, dtype: torch.dtype) -> bool:
    """Whether the fused kernel is the faster one: in 16 bit on a CPU, two plain products are (docs/performance.md)."""
    return kind != "cpu" or dtype == torch.float32


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(QK^T / sqrt(d)) V, (B, h, Q, d): the faster of two equal ways, the fused kernel or plain products.

    Args:
        mask: bool, or `as_bias` of it, which is faster.
    """
    if not _fused(query.device.type, query.dtype):
        return attend_plainly(query, key, value, mask)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def attend_plainly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(QK^T / sqrt(d)) V, written out; a row that may look at nothing looks at everything alike."""
    score_BhQM = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None and mask.dtype == torch.bool:
        score_BhQM = score_BhQM.masked_fill(~mask, torch.finfo(score_BhQM.dtype).min)
    elif mask is not None:
        score_BhQM = score_BhQM + mask
    return score_BhQM.softmax(dim=-1).to(value.dtype) @ value


class KeyValueCache:
    """Keys and values of tokens already encoded, per layer; rows are beams, grouped by sequence.

    Tokens beyond `length` may be overwritten, which is how a query's keys and values are forgotten.

    Args:
        layers: layers of the encoder.
        room: tokens that may be added to those of the first extension.
    """

    def __init__(self, layers: int, room: int) -> None:
        self.keys: list[Tensor | None] = [None] * layers  # (B, h, capacity, d) each
        self.values: list[Tensor | None] = [None] * layers
        self.room, self.prefix, self.length = room, 0, 0
        self.text: Segment | None = None  # that is written
        self.pooled: dict[tuple[int, str], Tensor] = {}  # of the prefix, for routing that looks at it
        self.merged: dict[object, tuple[Tensor, Tensor]] = {}  # experts, merged once for all words

    def extend(self, layer: int, key_BhNd: Tensor, value_BhNd: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens so far, the new ones (written behind `length`) included."""
        if self.keys[layer] is None:
            self.keys[layer] = F.pad(key_BhNd, (0, 0, 0, self.room))
            self.values[layer] = F.pad(value_BhNd, (0, 0, 0, self.room))
        stop = self.length + key_BhNd.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        assert keys is not None
        assert values is not None
        keys[:, :, self.length : stop] = key_BhNd
        values[:, :, self.length : stop] = value_BhNd
        return keys[:, :, :stop], values[:, :, :stop]

    def keep(self, tokens: int) -> None:
        """Count the first `tokens` of the last extension as encoded; the rest will be overwritten."""
        self.prefix = self.prefix or tokens
        self.length += tokens

    def repeat(self, times: int) -> None:
        """Every row `times` times: one per beam."""
        self.keys = [key if key is None else key.repeat_interleave(times, dim=0) for key in self.keys]
        self.values = [value if value is None else value.repeat_interleave(times, dim=0) for value in self.values]
        for where, context_BD in self.pooled.items():
            self.pooled[where] = context_BD.repeat_interleave(times, dim=0)

    def reorder(self, parent_B: Tensor) -> None:
        """Row i continues row parent_B[i] of the same sequence; only generated words differ, so only they move."""
        words = slice(self.prefix, self.length)
        for buffer in (*self.keys, *self.values):
            assert buffer is not None
            buffer[:, :, words] = buffer[parent_B, :, words]


class Attention(nn.Module):
    """Self-attention with packed query, key, value projection (that order) and scale 1/sqrt(head width).

    The projections may have experts, which the router chooses.
    """

    def __init__(self, heads: int, qkv: nn.Module, out: nn.Module, router: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out, self.router = qkv, out, router

    def forward(
        self,
        x_TD: Tensor,
        context: ForwardContext,
        mask: Tensor | None,
        prompt_PD: Tensor | None = None,
        *,
        summary: bool,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        """(Q, D), where Q are the first tokens of the sequences (only they look) with `summary`, else all T.

        Args:
            prompt_PD: put in front of keys and values of every sequence; `mask` counts it already.
        """
        route_qkv, route_out = self.router(x_TD, context)
        query, key, value = self._split(self.qkv(x_TD, route_qkv), context)
        if summary:
            query = query[:, :, :1]
            mask = mask if mask is None else mask[:, :, :1]
            context, route_out = context.first(), route_out.first()
        if prompt_PD is not None:
            key, value = self._with_prompt(key, value, prompt_PD, route_qkv, context)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        y_BhQd = attend(query, key, value, mask)
        return self.out(context.pack(y_BhQd.transpose(1, 2).flatten(2)), route_out)

    def _with_prompt(
        self, key: Tensor, value: Tensor, prompt_PD: Tensor, route: Route, context: ForwardContext
    ) -> tuple[Tensor, Tensor]:
        """Keys and values with those of a prompt, alike for all sequences, in front; (B, h, P + N, d)."""
        alone = context.alone(len(prompt_PD))
        of_prompt = route.prefix(len(prompt_PD)) or self.router(prompt_PD, alone)[0]
        _, key_1hPd, value_1hPd = self._split(self.qkv(prompt_PD, of_prompt), alone)
        key, value = (
            torch.cat([prompt.expand(tokens.shape[0], -1, -1, -1).to(tokens.dtype), tokens], dim=2)
            for prompt, tokens in ((key_1hPd, key), (value_1hPd, value))
        )
        return key, value

    def _split(self, qkv_TX: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, each (B, h, N, d)."""
        qkv = context.unpack(qkv_TX).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, h, N, d)
        query, key, value = qkv.unbind(0)
        return query, key, value
