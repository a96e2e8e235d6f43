"""Generation of a text, word by word, with arrays: as `tasks/decode.py` does it with tensors.

Shape suffixes: B sequences, J beams, R rows (sequence-major), V vocabulary, D width, S generated words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from uniperceiver.runner.folder import ExportedFolder

_IMPOSSIBLE = np.float32(-999.0)  # log-probability of continuing a finished text, as in the original release


@dataclass(frozen=True, kw_only=True)
class CaptionWriter:
    """The two graphs that write.

    Args:
        logits_of: what a word is read from, (R, D), to logits over the vocabulary, (R, V).
        end: id of the end token.
    """

    folder: ExportedFolder
    begin: str
    step: str
    logits_of: Callable[[np.ndarray], np.ndarray]
    end: int

    def write(self, media: Mapping[str, np.ndarray], *, beams: int, words: int, length_penalty: float) -> np.ndarray:
        """The best text of every picture, clip or sound, (B, S) int64: up to the first end token, then end tokens."""
        z_RD, past, *pooled = self.folder.run(self.begin, media)
        batch = len(z_RD)
        ids_RS, score_R = np.zeros((batch, 0), dtype=np.int64), np.zeros(batch, dtype=np.float32)
        for place in range(1, words + 1):
            step_RV = _after_end(log_softmax(self.logits_of(z_RD)), ids_RS, self.end)
            parent_R, word_R = _best(score_R[:, None] + step_RV, batch, beams)
            score_R = score_R[parent_R] + step_RV[parent_R, word_R]
            ids_RS = np.concatenate([ids_RS[parent_R], word_R[:, None]], axis=1)
            if place == words or bool((ids_RS == self.end).any(axis=1).all()):
                break
            past, pooled = past[parent_R], [pool[parent_R] for pool in pooled]
            values = {"word": word_R, "place": np.array(place), "past": past}
            z_RD, past = self.folder.run(self.step, values | ({"pooled": pooled[0]} if pooled else {}))
        if length_penalty > 0:
            score_R = score_R / ((ids_RS != self.end).sum(axis=1) + 1) ** length_penalty
        best_B = score_R.reshape(batch, -1).argmax(axis=1)
        return ids_RS[np.arange(batch) * (len(score_R) // batch) + best_B]


def log_softmax(logits_RV: np.ndarray) -> np.ndarray:
    """log P(word), (R, V) float32."""
    shifted_RV = logits_RV - logits_RV.max(axis=-1, keepdims=True)
    return shifted_RV - np.log(np.exp(shifted_RV).sum(axis=-1, keepdims=True))


def _after_end(step_RV: np.ndarray, ids_RS: np.ndarray, end: int) -> np.ndarray:
    """Log-probabilities in which a finished text can only go on with the end token, at no cost."""
    if ids_RS.shape[1] == 0:
        return step_RV
    forced_V = np.full(step_RV.shape[1], _IMPOSSIBLE, dtype=step_RV.dtype)
    forced_V[end] = 0.0
    return np.where((ids_RS[:, -1] == end)[:, None], forced_V, step_RV)


def _best(score_RV: np.ndarray, batch: int, beams: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and word of the best `beams` continuations of every sequence, best first, each (B * J,)."""
    rows, vocabulary = score_RV.shape
    flat_BX = score_RV.reshape(batch, -1)
    likely_BJ = np.argpartition(-flat_BX, beams - 1, axis=1)[:, :beams]
    order_BJ = np.argsort(-np.take_along_axis(flat_BX, likely_BJ, axis=1), axis=1, kind="stable")
    index_BJ = np.take_along_axis(likely_BJ, order_BJ, axis=1)
    parent_BJ = index_BJ // vocabulary + np.arange(batch)[:, None] * (rows // batch)
    return parent_BJ.reshape(-1), (index_BJ % vocabulary).reshape(-1)
