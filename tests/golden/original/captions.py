"""The original's caption generation: beam search over the layers' cached inputs, two encoder passes per word.

Shape suffixes: B pictures, J beams, R rows (picture-major beams), V vocabulary, D width, S words.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tests.golden.original.encoder import Call, Seen, encode
from tests.golden.original.tasks import Tensors, input_call, projected, scale, target_call, unit
from tests.golden.original.weights import Original, words

_NEVER = -999.0


def write(
    model: Original, tensors: Tensors, *, kind: str, temperature: str, beams: int, length: int, end: int, penalty: float
) -> tuple[dict[str, Tensor], Seen, Call]:
    """The best text of each picture as `ids` and `logp`, (B, S), and the logits of every step; then the first call.

    Args:
        tensors: of the case: pictures alone.
        length: words of a text, the end counted.
    """
    x_BND, call = input_call(model, tensors, kind)
    call = replace(call, first=x_BND.shape[1])
    seen = encode(model, x_BND, call)
    x_KND, of_words = target_call(model, tensors)
    word_VD = unit(projected(model, encode(model, x_KND, of_words).outputs[-1][:, 0]))
    history = seen.inputs
    found: dict[str, Tensor] = {}
    batch = len(x_BND)
    ids_RS, logp_RS, score_R = torch.zeros(batch, 0).long(), x_BND.new_zeros(batch, 0), x_BND.new_zeros(batch)
    for step in range(length):
        rows = len(ids_RS)
        query_R = torch.full((rows,), model.answer)
        out_RD = encode(model, *_one(model, query_R, step, call, history)).outputs[-1][:, 0]
        logits_RV = scale(model, temperature) * unit(projected(model, out_RD)) @ word_VD.mT
        found[f"step{step}.logits"] = logits_RV
        logp_RV = _finished(logits_RV.log_softmax(dim=-1), ids_RS, end)
        total_BX = (score_R[:, None] + logp_RV).reshape(batch, -1)
        best_BJ = total_BX.sort(dim=1, descending=True, stable=True).indices[:, :beams]
        parent_R = (best_BJ // logp_RV.shape[1] + torch.arange(batch)[:, None] * (rows // batch)).flatten()
        word_R = (best_BJ % logp_RV.shape[1]).flatten()
        logp_RS = torch.cat([logp_RS[parent_R], logp_RV[parent_R, word_R][:, None]], dim=1)
        ids_RS = torch.cat([ids_RS[parent_R], word_R[:, None]], dim=1)
        score_R = score_R[parent_R] + logp_RV[parent_R, word_R]
        history = [each[parent_R] for each in history]
        added = encode(model, *_one(model, word_R, step, call, history)).inputs
        history = [torch.cat([old, new], dim=1) for old, new in zip(history, added, strict=True)]
    if penalty > 0:
        score_R = score_R / ((ids_RS != end).sum(dim=1) + 1) ** penalty
    row_B = score_R.view(batch, -1).argmax(dim=1) + torch.arange(batch) * (len(score_R) // batch)
    return found | {"ids": ids_RS[row_B], "logp": logp_RS[row_B]}, seen, call


def _one(model: Original, id_R: Tensor, step: int, call: Call, history: list[Tensor]) -> tuple[Tensor, Call]:
    """A single token at a step's position, behind what was encoded before."""
    x_R1D = words(model, id_R[:, None], torch.tensor([step]))
    return x_R1D, replace(call, history=history)


def _finished(logp_RV: Tensor, ids_RS: Tensor, end: int) -> Tensor:
    """A text that has ended may only end again, at no cost."""
    if ids_RS.shape[1] == 0:
        return logp_RV
    only_end_V = torch.full_like(logp_RV[0], _NEVER)
    only_end_V[end] = 0.0
    return torch.where((ids_RS[:, -1] == end)[:, None], only_end_V, logp_RV)
