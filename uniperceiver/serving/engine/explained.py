"""What the answers to a question are made of.

Shape suffixes: N items, K candidates.
"""

import torch
from torch import Tensor

from uniperceiver.serving.asking.explained import Explained
from uniperceiver.serving.engine.engine import Engine
from uniperceiver.serving.engine.routing import gate_decisions
from uniperceiver.serving.engine.samples import ReadWhenAsked
from uniperceiver.serving.saved import KnownTask


def explained(engine: Engine, chosen: KnownTask, samples: ReadWhenAsked, *, decisions: bool) -> Explained[Tensor]:
    """Compare items with all candidates of a task, and keep what the comparison was made of.

    Args:
        decisions: those of the gates, too, for which all tokens go through all layers.
    """
    labels, model = chosen.task.answer.names(chosen.task, engine.codec), engine.model
    c_KD, temperature = engine.all_candidates(chosen), 1 / model.scale(chosen.task.temperature).item()
    if not decisions:
        cosine_NK, probability_NK = engine.comparison(chosen, samples, c_KD)
        return Explained(
            labels=tuple(labels), cosine_NK=cosine_NK, probability_NK=probability_NK, temperature=temperature
        )
    cosines, probabilities, passes = [], [], []
    for batch, cosine_NK, probability_NK, decided in engine.compared(chosen, samples, c_KD):
        cosines.append(cosine_NK)
        probabilities.append(probability_NK)
        passes.append((batch, decided))
    none_NK = torch.empty(0, len(labels))
    gated = any(decided for _, decided in passes)
    token_first = model.encoder.token_first
    return Explained(
        labels=tuple(labels),
        cosine_NK=torch.cat(cosines) if cosines else none_NK,
        probability_NK=torch.cat(probabilities) if probabilities else none_NK,
        temperature=temperature,
        decisions=gate_decisions(engine.saved.arch, passes, token_first=token_first) if gated else [],
    )
