"""Mixtures of experts for anybody's nn.Module: tensors and tags go in, tensors come out, no record of this library.

A router looks at the tokens themselves (`condition="token"`, `"context"`, `"expert_choice"`) or at tags that the caller
gives them (`"task"`, `"modality"`, `"attribute"`, or a condition of your own): tokens with equal tags have the same
experts, which then cost what one plain linear costs. One decision may be used for several linears.

Shape suffixes: T tokens of all sequences, B sequences, N tokens of a sequence, D width, Y entries of a tag's code,
G segment groups (here: different tags), E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.balance import balance_terms
from uniperceiver.moe.conditions import Code, OfSegment, condition_of, one_hot
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.layer import ExpertLinear, WholeFeedForward
from uniperceiver.moe.route import Route, Router
from uniperceiver.moe.segment_router import SegmentGroups, SegmentRouter
from uniperceiver.moe.settings import MoE, check
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.records import Decision, Facts, Segment

Tags = Tensor | Sequence[int] | int

_FACTS = Facts(side="input", inputs=(), targets=())  # routers of a lifted module look at tokens or tags alone


def _same_code(code: Code, segment: Segment, settings: MoE) -> Code:
    """A code for every segment: that of a tag is found by the caller."""
    return code


@dataclass(frozen=True, kw_only=True)
class Routing:
    """What a router decided for the tokens of one call; linears with experts take it as `routing=`."""

    route: Route
    shape: tuple[int, ...]  # of the tokens, without their width
    order_T: Tensor | None  # int64, the tokens by their tags; None: as they are
    back_T: Tensor | None  # int64, and back
    decision: Decision | None  # None: tags name the experts, nothing was decided
    group_T: Tensor | None  # int64, the tag of each token among those that came; None: decided token by token
    zero: Tensor  # (), where there is no loss

    def apply(self, experts: nn.Module, x: Tensor) -> Tensor:
        """The tokens (..., I), through an `ExpertLinear`: (..., O)."""
        return self._back(experts(self._sorted(x), self.route))

    def functions(self, experts: nn.ModuleList, x: Tensor) -> Tensor:
        """sum_e g_e expert_e(x) of the tokens (..., I), for experts that keep the width."""
        return self._back(self.route.functions(list(experts), self._sorted(x)))

    @property
    def weights(self) -> Tensor:
        """The weight that each token gives to each expert, float32 (..., E); 0 where it was not chosen.

        Raises:
            UserError: tags name the experts, so there are no weights.
        """
        if self.decision is None:
            raise UserError("these experts are named by their tags; there are no weights")
        weight_TE = self.decision.weight_TE
        return (weight_TE if self.group_T is None else weight_TE[self.group_T]).unflatten(0, self.shape)

    def balance_loss(self, *, least_experts: float = 4.0, **coefficients: float) -> Tensor:
        """The sum of losses against collapse times their coefficients, (): 0 where tags choose, nothing can collapse.

        Args:
            least_experts: of "global_entropy".
            coefficients: by the names of `moe.balance.LOSSES` or "global_entropy"; none: switch=0.01.
        """
        decisions = [] if self.decision is None else [self.decision]
        return sum(balance_terms(decisions, coefficients or {"switch": 0.01}, least_experts).values(), self.zero)

    def _sorted(self, x: Tensor) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        return x_TI if self.order_T is None else x_TI.index_select(0, self.order_T)

    def _back(self, y_TO: Tensor) -> Tensor:
        return (y_TO if self.back_T is None else y_TO.index_select(0, self.back_T)).unflatten(0, self.shape)


class MixtureRouter(nn.Module):
    """Decides which experts tokens go to.

    Args:
        width: of the tokens, and of what a gate makes of a tag.
        condition: a name of `moe.conditions.CONDITIONS`.
        tags: how many different tags there are; with "attribute", of how many yes/no entries a tag consists. None: as
            many as the condition itself has (8 attributes, 2 modalities).
        noise: in training, N(0, (noise / experts)^2) from torch's generator is added to a gate's logits.
        heads: of the attention pooling of "context".
        settings: other fields of `moe.settings.MoE`: renormalise, training_capacity, evaluation_capacity, ...

    Raises:
        UserError: an unknown condition; settings that contradict each other.

    Example:
        >>> router = MixtureRouter(16, experts=4, k=2, condition="task", tags=3)
        >>> routing = router(torch.randn(2, 5, 16), tags=[0, 0, 1, 2, 2])
        >>> routing.weights.shape
        torch.Size([2, 5, 4])
    """

    def __init__(
        self,
        width: int,
        *,
        experts: int = 8,
        k: int = 2,
        condition: str = "token",
        tags: int | None = None,
        noise: float = 1.0,
        heads: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__()
        kind = condition_of(condition)
        k, settings = (k, {"renormalise": k > 1} | settings) if kind.gated else (1, settings | {"renormalise": False})
        fields = {"condition": condition, "experts": experts, "k": k, "noise": noise, **settings}
        moe = check(MoE(tasks=tags or 1, **fields))
        if moe.serve_answer:
            raise UserError("serve_answer: tokens of a caller have no <SPE>; leave it out")
        self._condition: OfSegment | None = None
        if kind.by_token:
            self.router: Router = TokenRouter(kind, moe, width, heads=heads, layer=0, part="ffn")
            return
        code = (0.0,) * (kind.width(moe) if tags is None else tags)
        if not kind.gated and experts != len(code):
            raise UserError(f"condition={condition!r}: each tag names an expert; use as many experts as tags")
        # The codes are those of the caller's tags; of a condition only its form is left.
        self._condition = replace(kind, code=partial(_same_code, code))
        self.router = SegmentRouter(self._condition, moe, width, layer=0, part="ffn")
        self._entries = len(code)

    def forward(self, x: Tensor, tags: Tags | None = None, *, valid: Tensor | None = None) -> Routing:
        """Decide.

        Args:
            x: (..., N, D), sequences of tokens.
            tags: of conditions that look at tags. int64 numbers from 0 that broadcast to (..., N); with "attribute",
                zeros and ones that broadcast to (..., N, Y).
            valid: bool (..., N), False where a token is padding, which is not routed; None: no padding. Tokens with
                tags go to the experts of their tag in any case.

        Raises:
            UserError: tags are missing, not wanted, or out of range.
        """
        if (tags is None) != (self._condition is None):
            raise UserError("tags: needed by a condition that looks at tags, and by no other")
        shape, stream = tuple(x.shape[:-1]), torch.default_generator if self.training else None
        zero = x.new_zeros((), dtype=torch.float32)
        if self._condition is None:
            x_BND = x.reshape(-1, *x.shape[-2:])
            valid_BN = None if valid is None else valid.expand(shape).reshape(x_BND.shape[:2])
            segment = Segment(start=0, stop=x_BND.shape[1], kind="tokens", causal=False, facts=_FACTS)
            context = ForwardContext(
                sequences=x_BND.shape[0],
                length=x_BND.shape[1],
                segments=(segment,),
                device=x.device,
                valid_BN=valid_BN,
                shared_BN=valid_BN,
                stream=stream,
            )
            route, _ = self.router(x_BND.flatten(0, 1), context)
            order_T = back_T = group_T = None
        else:
            groups, group_T, counts = self._groups(torch.as_tensor(tags, device=x.device), shape)
            order_T = None if bool((group_T.diff() >= 0).all()) else group_T.argsort(stable=True)
            back_T = None if order_T is None else order_T.argsort()
            segments = tuple(
                Segment(start=start, stop=stop, kind="tokens", causal=False, facts=_FACTS)
                for start, stop in pairwise((0, *accumulate(counts)))
            )
            context = ForwardContext(
                sequences=1,
                length=len(group_T),
                segments=segments,
                device=x.device,
                stream=stream,
                groups={self._condition: groups},
            )
            route, _ = self.router(x.reshape(-1, x.shape[-1]), context)
        decision = context.decisions[0] if context.decisions else None
        return Routing(
            route=route, shape=shape, order_T=order_T, back_T=back_T, decision=decision, group_T=group_T, zero=zero
        )

    def _groups(self, tags: Tensor, shape: tuple[int, ...]) -> tuple[SegmentGroups, Tensor, list[int]]:
        """The different tags, which of them each token has, and how many tokens each has."""
        assert self._condition is not None
        if self._condition.normed:
            tag_TY = tags.float().expand(*shape, self._entries).reshape(-1, self._entries)
            code_GY, group_T = tag_TY.unique(dim=0, return_inverse=True)
            codes = tuple(map(tuple, code_GY.tolist()))
        else:
            tag_G, group_T = tags.expand(shape).reshape(-1).unique(return_inverse=True)
            numbers = tag_G.tolist()
            if numbers and not 0 <= numbers[0] <= numbers[-1] < self._entries:
                raise UserError(f"tags: from {numbers[0]} to {numbers[-1]}, but they are 0 to {self._entries - 1}")
            codes = tuple(one_hot(number, self._entries) for number in numbers)
            code_GY = torch.tensor(codes, device=tags.device)
        counts = group_T.bincount(minlength=len(codes)).tolist()
        stops = (0, *accumulate(counts))
        spans = tuple((start, stop, group) for group, (start, stop) in enumerate(pairwise(stops)))
        groups = SegmentGroups(codes=codes, group_S=tuple(range(len(codes))), spans=spans, code_GY=code_GY)
        return groups, group_T, counts


class MixtureLinear(nn.Module):
    """y = sum_e g_e (W_e x + b_e): a linear whose experts are chosen for each token, or by its tag.

    Args:
        inputs: width of the tokens.
        outputs: width of what comes out.
        router: other arguments of `MixtureRouter`.

    Example:
        >>> linear = MixtureLinear(16, 32, experts=4, k=2, condition="attribute")
        >>> bits = torch.tensor([[1, 0, 0, 1, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0, 0, 1]])
        >>> linear(torch.randn(3, 2, 16), tags=bits).shape
        torch.Size([3, 2, 32])
    """

    def __init__(self, inputs: int, outputs: int, *, experts: int = 8, **router: Any) -> None:
        super().__init__()
        self.router = MixtureRouter(inputs, experts=experts, **router)
        self.linear = ExpertLinear(inputs, outputs, experts)

    def forward(
        self, x: Tensor, tags: Tags | None = None, *, valid: Tensor | None = None, routing: Routing | None = None
    ) -> Tensor:
        """(..., N, O) of tokens (..., N, I).

        Args:
            tags: as of `MixtureRouter`, as is `valid`.
            routing: a decision that was made already, by `self.router(x, tags)` or another router: its weights and its
                balance loss can then be had. None: the own router decides.
        """
        return (self.router(x, tags, valid=valid) if routing is None else routing).apply(self.linear, x)


class MixtureFeedForward(nn.Module):
    """Linear, exact (erf) GELU, linear with experts, chosen once for both linears.

    Args:
        width: of the tokens.
        hidden: width between the linears.
        whole: an expert is a whole FFN, its nonlinearity inside; False: each linear is a mixture.
        router: other arguments of `MixtureRouter`.

    Example:
        >>> ffn = MixtureFeedForward(16, 64, experts=4, k=2)
        >>> x = torch.randn(2, 5, 16)
        >>> routing = ffn.router(x)
        >>> loss = ffn(x, routing=routing).square().mean() + routing.balance_loss(switch=0.01)
    """

    def __init__(self, width: int, hidden: int, *, experts: int = 8, whole: bool = False, **router: Any) -> None:
        super().__init__()
        self.whole = whole
        self.router = MixtureRouter(width, experts=experts, **router)
        if whole:
            self.experts = nn.ModuleList(WholeFeedForward(width, hidden) for _ in range(experts))
        else:
            self.linear1, self.linear2 = ExpertLinear(width, hidden, experts), ExpertLinear(hidden, width, experts)

    def forward(
        self, x: Tensor, tags: Tags | None = None, *, valid: Tensor | None = None, routing: Routing | None = None
    ) -> Tensor:
        """(..., N, D) of tokens (..., N, D); arguments as of `MixtureLinear`."""
        routing = self.router(x, tags, valid=valid) if routing is None else routing
        if self.whole:
            return routing.functions(self.experts, x)
        return routing.apply(self.linear2, F.gelu(routing.apply(self.linear1, x)))
