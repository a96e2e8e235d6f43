"""What a comparison found: the largest error of each quantity, and what could not be compared, with the reason.

An error is max|ours - theirs| / max|theirs|.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

TOLERANCES = {
    "activations": 2e-5,
    "gate weights": 2e-5,
    "gate indices": 0.0,
    "logits": 2e-5,
    "cosines": 2e-5,
    "losses": 1e-5,
    "gradients": 1e-3,
    "step logits": 2e-5,
    "log-likelihoods": 2e-5,
    "generated ids": 0.0,
    "parameters": 1e-5,
    "learning rates": 1e-6,
    "weight decays": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Of one case; filled while it is compared."""

    errors: dict[str, float] = field(default_factory=dict)  # the largest of each quantity
    reasons: list[str] = field(default_factory=list)  # why something could not be compared: counts as beyond tolerance
    remarks: list[str] = field(default_factory=list)  # what a reader should know of the comparison

    def note(self, quantity: str, value: float) -> None:
        """Keep the largest error of a quantity."""
        self.errors[quantity] = max(self.errors.get(quantity, 0.0), value)

    def compare(self, quantity: str, what: str, measured: Tensor, recorded: Tensor) -> None:
        """Note the error of `what`; another shape is a reason."""
        if measured.shape != recorded.shape:
            self.reasons.append(f"{what}: {tuple(recorded.shape)} recorded, {tuple(measured.shape)} computed")
        elif recorded.numel():
            self.note(quantity, error(measured, recorded))

    @property
    def beyond(self) -> list[str]:
        """Quantities beyond their tolerance, and reasons; a case of which nothing was compared is beyond, too."""
        wrong = [name for name, value in self.errors.items() if not value <= TOLERANCES[name]] + self.reasons
        return wrong if wrong or self.errors else ["nothing compared"]


def error(measured: Tensor, recorded: Tensor) -> float:
    """max|ours - theirs| / max|theirs|; infinite where one of them is not finite."""
    if not bool(torch.isfinite(measured).all() and torch.isfinite(recorded).all()):
        return float("inf")
    largest = float(recorded.abs().max())
    return float((measured.detach() - recorded).abs().max()) / (largest or 1.0)


def failed(reason: BaseException) -> Findings:
    """Of a case that could not be understood at all."""
    line = " ".join(str(reason).split())[:200]
    missing = f"misses {line}" if isinstance(reason, KeyError) else line
    return Findings(reasons=[missing or type(reason).__name__])
