"""Prompt tuning: the few parameters that are added to a frozen model (P-tuning v2, as the original release has it).

Shape suffixes: D width, P vectors of a prompt, K candidates (here: classes), R read-outs.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import PromptShape
from uniperceiver.records import Side

_NORM = re.compile(r"(^|\.)norm[12]?\.(weight|bias)$")


def is_tuned(name: str) -> bool:
    """Whether prompt tuning trains a parameter: what it added, and all norms but those of gates.

    The original's set: 0.902 M parameters of the Base model with a linear head for 1,000 classes.
    """
    return name.startswith("prompts.") or (_NORM.search(name) is not None and ".router." not in name)


class Prompts(nn.Module):
    """Deep prompts, a bias of <SPE>, and for a task with classes a linear head or a vector per class.

    Deep prompts are looked at by all tokens of a layer, but look at nothing: they go through the layer's first norm and
    are put in front of its keys and values.
    """

    def __init__(self, shape: PromptShape, *, layers: int, width: int) -> None:
        super().__init__()
        self.inputs = nn.ParameterList(torch.empty(shape.vectors, width) for _ in range(layers if shape.vectors else 0))
        own = layers if shape.candidates else 0
        self.candidates = nn.ParameterList(torch.empty(shape.candidates, width) for _ in range(own))
        self.answer = nn.Parameter(torch.zeros(width))  # added to the word vector of every <SPE>
        self.classes = nn.Linear(width, shape.classes) if shape.classes else None
        self.similarity = nn.Parameter(torch.ones(())) if shape.classes else None
        self.labels = nn.Parameter(torch.zeros(shape.labels, width)) if shape.labels else None

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Deep prompts N(0, 0.02); everything else begins without an effect."""
        for prompt_PD in (*self.inputs, *self.candidates):
            prompt_PD.normal_(0.0, 0.02, generator=stream)
        self.answer.zero_()
        if self.classes is not None and self.similarity is not None:
            self.classes.weight.zero_()
            self.classes.bias.zero_()
            self.similarity.fill_(1.0)
        if self.labels is not None:
            self.labels.zero_()

    def deep(self, side: Side) -> Sequence[Tensor] | None:
        """The prompts of all layers for inputs or candidates, (P, D) each; None if there are none."""
        prompts = self.candidates if side == "candidate" and len(self.candidates) else self.inputs
        return list(prompts) or None

    def finish(self, logits_RK: Tensor, feature_RD: Tensor) -> Tensor:
        """similarity * logits + W feature + b with a linear head (Uni-Perceiver v1, Appendix C), else the logits.

        Raises:
            UserError: the head is for another number of classes.
        """
        if self.classes is None or self.similarity is None:
            return logits_RK
        if logits_RK.shape[1] != self.classes.out_features:
            raise UserError(
                f"this model was tuned with a linear head for {self.classes.out_features} classes, not for "
                f"{logits_RK.shape[1]}; ask it about the labels of its task, or ask the model it was made from"
            )
        return self.similarity * logits_RK + self.classes(feature_RD).float()
