"""What is fixed about the experts of a model; saved in its config.json."""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field, PositiveInt

from uniperceiver.config.moe import ExpertsConfig
from uniperceiver.errors import UserError
from uniperceiver.strict import record

KINDS = ("visual", "text")  # of which every model has tokens; those of other modalities come behind


@record
class MoE(ExpertsConfig):
    """Conditional experts: which linears have them, and how they are chosen."""

    attention_layers: tuple[int, ...] = ()
    """Layers whose attention has experts."""
    ffn_layers: tuple[int, ...] = ()
    """Layers whose FFN has experts."""
    level: Literal["linear", "ffn"] = "linear"
    """linear: every linear has experts (Eq. 4); ffn: an expert is a whole FFN with its nonlinearity."""
    attention_gates: Literal[1, 2] = 1
    """1: the decision of qkv holds for the attention output too; 2: each linear has its own."""
    ffn_gates: Literal[1, 2] = 1
    """1: the decision of the first linear holds for the second too; 2: each has its own."""
    noise: float = Field(default=1.0, ge=0)
    """In training, N(0, (noise / experts)^2) is added to the gate's logits."""
    renormalise: bool = True
    """Whether the chosen probabilities are divided by their sum."""
    training_capacity: float | None = Field(default=None, gt=0)
    """An expert takes at most this x k x tokens / experts; None: every token is computed by all its experts."""
    evaluation_capacity: float | None = Field(default=None, gt=0)
    """The same when nothing is learned."""
    selection_bias: bool = False
    """A bias for selection only, moved after each step towards equal loads."""
    tasks: PositiveInt = 1
    """Tasks of the run, for conditions that look at the task."""
    kinds: tuple[str, ...] = KINDS
    """What tokens may be, for conditions that look at the modality."""
    group: Literal["sequence", "batch"] = "sequence"
    """expert_choice: an expert chooses among the tokens of one sequence, or of all that are encoded together."""
    serve_answer: bool = False
    """expert_choice: whether a <SPE> that no expert has chosen is computed by the one it likes best."""

    @property
    def capacity(self) -> bool:
        """Whether there is a limit on the tokens of an expert, in training or otherwise."""
        return self.training_capacity is not None or self.evaluation_capacity is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json; what came later stands there only where it says something."""
        later = {"kinds": KINDS, "group": "sequence", "serve_answer": False}
        return {key: value for key, value in asdict(self).items() if key not in later or value != later[key]}


def check(settings: MoE) -> MoE:
    """The settings, if they are possible.

    Raises:
        UserError: they are not; the line says why and what to write instead.
    """
    if settings.k > settings.experts:
        raise UserError(f"moe.k {settings.k} is more than moe.experts {settings.experts}; choose 1 <= k <= experts")
    if settings.k == 1 and settings.renormalise:
        raise UserError(
            "moe.renormalise: with k=1 the weight would be p / p = 1 whatever the gate says, so the gate would get no "
            "gradient; leave it out, or use moe.k=2"
        )
    if settings.level == "ffn" and settings.attention_layers:
        raise UserError("moe.level ffn: whole-FFN experts have no place in attention; add moe.where=ffn")
    return settings
