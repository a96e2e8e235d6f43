"""Conditional Mixture-of-Experts: what chooses the experts, where they are, how they are balanced."""

from typing import Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@record
class CapacityConfig:
    """Limits on how many tokens an expert takes; figures then depend on which samples share a batch."""

    training: float = Field(default=1.0, gt=0)
    """An expert takes at most training x k x tokens / experts, those the gate is surest of first."""
    evaluation: float = Field(default=2.0, gt=0)
    """The same in evaluation. Candidates are never dropped."""


@record
class BalanceConfig:
    """Losses that spread tokens over experts, for conditions that read values; means over the gates of the model."""

    switch: float = Field(default=0.01, ge=0)
    """Coefficient of the Switch loss, E x sum_e (share of assignments)_e x (mean probability)_e."""
    importance: float = Field(default=0.0, ge=0)
    """Coefficient of V-MoE's importance loss."""
    load: float = Field(default=0.0, ge=0)
    """Coefficient of V-MoE's load loss."""
    z: float = Field(default=0.0, ge=0)
    """Coefficient of the router z-loss, which keeps logits small."""
    local_entropy: float = Field(default=0.0, ge=0)
    """Coefficient of LIMoE's local entropy: each token is sure of its expert."""
    global_entropy: float = Field(default=0.0, ge=0)
    """Coefficient of LIMoE's global entropy: each modality uses at least `least_experts` experts."""
    least_experts: float = Field(default=4.0, gt=1)
    """Experts that a modality should use at least, softly counted."""
    bias_rate: float = Field(default=0.0, ge=0)
    """Above 0: balancing without a loss. A bias that counts in selection only moves by this much after each step."""


@record
class ExpertsConfig:
    """What a recipe says of its experts and a model keeps in its config.json, word for word."""

    condition: str
    """What chooses the experts: token, context, modality, task, attribute, expert_choice; or task_specific: each task
    has its own copy; or a condition of your own."""
    layout: Literal["paper", "release"] = "paper"
    """Meaning of the attribute bits; weights of the original release need `release`."""
    experts: PositiveInt = 8
    """Experts of each linear."""
    k: PositiveInt = 2
    """Experts that a token uses; with expert_choice, those that it uses on average."""


@record
class MoEConfig(ExpertsConfig):
    """Conditional Mixture-of-Experts."""

    condition: str = "shared"
    """shared: a dense model. What chooses the experts: token, context, modality, task, attribute, expert_choice; or
    task_specific: each task has its own copy. A recipe that says anything else here must say this, too."""
    where: Literal["both", "attention", "ffn"] = "both"
    """Which half of a layer has experts."""
    layers: PositiveInt | list[int] = 1
    """A number n: every n-th layer, from the first; a list: these layers, counted from 0."""
    level: Literal["linear", "ffn"] = "linear"
    """linear: each linear is a mixture; ffn: an expert is a whole FFN, which needs where=ffn: experts in
    attention beside it would be another model than experts in the FFN alone, so neither is guessed."""
    gates: Literal["half_block", "linear"] = "half_block"
    """half_block: one decision for both linears of an attention or FFN; linear: one for each."""
    begin: Literal["apart", "equal"] = "apart"
    """apart: each expert is drawn on its own; equal: those of a linear begin as copies of one draw, that of the dense
    model of this seed, so that all learn from everything until their tokens part them."""
    copy_noise: float = Field(default=0.0, ge=0)
    """Of copies, with a dense `model.start` or `begin: equal`: noise on each expert's matrix, relative to the matrix's
    standard deviation. 0: the model begins exactly as the dense one; gates learn only as its copies come to differ."""
    group: Literal["sequence", "batch"] = "sequence"
    """expert_choice: among which tokens an expert chooses. sequence: those of one sequence; batch: those of all that
    are encoded together, in groups of at most 2,048, as IMP does; figures then depend on the batch."""
    serve_answer: bool = False
    """expert_choice: a <SPE> that no expert has chosen is computed by the one it likes best."""
    noise: float = Field(default=1.0, ge=0)
    """In training, N(0, (noise / experts)^2) is added to the logits of the gates."""
    renormalise: bool | None = None
    """Whether the chosen probabilities are divided by their sum; None: where k is 2 or more."""
    capacity: CapacityConfig | None = None
    """None: no token is ever dropped."""
    balance: BalanceConfig = BalanceConfig()
    """Losses against collapse."""
