"""SAMPLES AND TEXTS -> REPRESENTATIONS: what all questions to an export have in common.

Shape suffixes: N items, K candidates, D width, X texts.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.records.exported import ExportedTask
from uniperceiver.runner.choice import graph_of
from uniperceiver.runner.folder import ExportedFolder
from uniperceiver.runner.reading import Reading, padded, unit
from uniperceiver.serving.asking.numbers import refuse_unbounded, tell_cut
from uniperceiver.tokenizers.bpe import TextEncoder

_TEXTS = 2048  # encoded together


class GraphEngine:
    """Runs the graphs of an export on items, batch by batch.

    Args:
        batch: items encoded together.
    """

    def __init__(self, folder: ExportedFolder, codec: TextEncoder, batch: int) -> None:
        self.folder, self.codec, self.batch = folder, codec, batch

    def encode(self, call: str, asked: ExportedTask, samples: Sequence[Sample]) -> np.ndarray:
        """Unit representations of the media of samples, (N, D)."""
        graph, reading = graph_of(asked, "media_graph", call), Reading(asked, self.codec)
        parts = [self.folder.run(graph, reading.media(batch))[0] for batch in self.batches(samples)]
        return finite(np.concatenate(parts)) if parts else np.empty((0, self.folder.exported.width), dtype=np.float32)

    def represent_classes(self, asked: ExportedTask, named: Sequence[Sequence[str]]) -> np.ndarray:
        """Several texts of a class are averaged and brought to length one again."""
        z_XD = self.represent("classify", asked, tuple(text for texts in named for text in texts), cut=False)
        if all(len(texts) == 1 for texts in named):
            return z_XD
        sums_KD = np.zeros((len(named), z_XD.shape[1]), dtype=np.float32)
        np.add.at(sums_KD, [label for label, texts in enumerate(named) for _ in texts], z_XD)
        return unit(sums_KD)

    def represent(self, call: str, asked: ExportedTask, texts: tuple[str, ...], *, cut: bool) -> np.ndarray:
        """Representations of texts as candidates of a task, (K, D); `cut` to its longest text, which is said."""
        graph, ids = graph_of(asked, "text_graph", call), [self.codec.encode(text) for text in texts]
        length, most = Preprocess(**asked.view).length, self.folder.exported.max_text
        if cut:
            tell_cut([len(text) + 1 for text in ids], length, asked.name)
            ids = [text[: length - 1] for text in ids]
        rows = [[*text, self.codec.end] for text in ids]
        if rows and (longest := max(map(len, rows))) > most:
            raise UserError(f"a text has {longest} tokens, more than the model's {most}; shorten it")
        parts = [self.folder.run(graph, padded(rows[at : at + _TEXTS]))[0] for at in range(0, len(rows), _TEXTS)]
        return finite(np.concatenate(parts)) if parts else np.empty((0, self.folder.exported.width), dtype=np.float32)

    def comparison(
        self, asked: ExportedTask, samples: Sequence[Sample], c_KD: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines of all candidates with the samples, and P(candidate | sample), (N, K) each."""
        graph, reading = graph_of(asked, "input_graph", "classify"), Reading(asked, self.codec)
        tell_cut(reading.lengths(samples), reading.view.length, asked.name)
        cosines, parts = ([np.empty((0, len(c_KD)), dtype=np.float32)] for _ in range(2))
        for batch in self.batches(samples):
            z_ND, *feature_ND = self.folder.run(graph, reading.values(batch))
            cosines.append(z_ND @ c_KD.T)
            logits_NK = (z_ND * np.float32(asked.scale)) @ c_KD.T
            if asked.head is not None:
                weight_KD, bias_K, similarity = (
                    self.folder.vectors(f"{asked.head}.{name}") for name in ("weight", "bias", "similarity")
                )
                logits_NK = similarity[0] * logits_NK + feature_ND[0] @ weight_KD.T + bias_K
            likely_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
            parts.append(likely_NK / likely_NK.sum(axis=1, keepdims=True))
        return finite(np.concatenate(cosines)), finite(np.concatenate(parts))

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """The samples, as many at a time as are encoded together."""
        for start in range(0, len(samples), self.batch):
            yield samples[start : start + self.batch]


def finite(x: np.ndarray) -> np.ndarray:
    """What a graph has computed.

    Raises:
        UserError: it is not finite, and so no answer.
    """
    refuse_unbounded(bool(np.isfinite(x).all()), "export another")
    return x
