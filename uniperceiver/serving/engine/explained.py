"""What the answers to a question are made of.

Shape suffixes: N items, K candidates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from uniperceiver.serving.engine.engine import Engine
from uniperceiver.serving.engine.routing import GateDecision, gate_decisions
from uniperceiver.serving.engine.samples import ReadWhenAsked
from uniperceiver.serving.saved import KnownTask


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Why a model answers as it does: P(candidate | item) is the softmax of cosine / temperature.

    Of an original model that adds a learnt scale and bias to its answers, the softmax is that of these.
    """

    labels: tuple[str, ...]  # of the candidates
    cosine_NK: Tensor  # float32, -1 to 1
    probability_NK: Tensor  # float32, rows add up to 1
    temperature: float
    decisions: list[GateDecision]  # of each gate about every token, in the order of the layers; empty in a dense model


def explained(engine: Engine, chosen: KnownTask, samples: ReadWhenAsked) -> Explained:
    """Compare items with all candidates of a task, and keep what the comparison was made of."""
    labels, model = chosen.task.answer.names(chosen.task, engine.codec), engine.model
    cosines, probabilities, passes = [], [], []
    for batch, cosine_NK, probability_NK, decisions in engine.compared(chosen, samples, engine.all_candidates(chosen)):
        cosines.append(cosine_NK)
        probabilities.append(probability_NK)
        passes.append((batch, decisions))
    none_NK = torch.empty(0, len(labels))
    gated = any(decisions for _, decisions in passes)
    token_first = model.encoder.token_first
    return Explained(
        labels=tuple(labels),
        cosine_NK=torch.cat(cosines) if cosines else none_NK,
        probability_NK=torch.cat(probabilities) if probabilities else none_NK,
        temperature=1 / model.scale(chosen.task.temperature).item(),
        decisions=gate_decisions(engine.saved.arch, passes, token_first=token_first) if gated else [],
    )
