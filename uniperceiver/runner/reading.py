"""SAMPLES -> ARRAYS: the inputs of a graph, as the model itself would see them.

Shape suffixes: B samples, N tokens, F frames or rows, H W pixels, C colours, M columns, D width.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uniperceiver.data.media.pixels import Preprocess, clip_array, image_array
from uniperceiver.data.media.sound_view import sound_grid
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.records import Sample
from uniperceiver.records.exported import MEDIA_INPUTS, ExportedTask
from uniperceiver.runner.choice import media_of
from uniperceiver.tasks.text import Text, plain, templated
from uniperceiver.tokenizers.bpe import TextEncoder

_SHORTEST = 2  # tokens that a graph is given: shorter texts are padded
_UNCUT = 2**62  # tokens
_ARRAYS: Mapping[str, Callable[[Sample, Preprocess], np.ndarray]] = {
    "image": image_array,
    "video": clip_array,
    "audio": sound_grid,
}
_EPS = 1e-12  # as torch.nn.functional.normalize


class Reading:
    """How a task reads its samples."""

    def __init__(self, asked: ExportedTask, codec: TextEncoder) -> None:
        self.asked, self.codec, self.view = asked, codec, Preprocess(**asked.view)

    def media(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """The pictures, (B, C, H, W), clips, (B, F, C, H, W), or sounds, (B, F, M), of samples, float32, by the name
        that graphs have for them.

        Raises:
            UserError: one of them cannot be decoded.
        """
        values: dict[str, np.ndarray] = {}
        try:
            for modality in media_of(self.asked):
                arrays = np.stack([_ARRAYS[modality](sample, self.view) for sample in samples])
                values[MEDIA_INPUTS[modality]] = arrays[:, 0] if modality == "image" else arrays
            return values
        except BrokenSample as error:
            raise UserError(f"{error}; give another file") from None

    def values(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """All inputs of a graph, by name.

        Raises:
            UserError: a sample cannot be decoded, or has no text.
        """
        values = self.media(samples)
        if TEXT not in self.asked.inputs:
            return values
        texts = [self._text(sample, self.view.length) for sample in samples]
        values |= padded([text.ids for text in texts])
        if self.asked.read_in_text:
            values["answer_position"] = np.array([text.ask_at[0] for text in texts], dtype=np.int64)
        return values

    def lengths(self, samples: Sequence[Sample]) -> list[int]:
        """The lengths of the samples' texts in tokens, if none were cut."""
        if TEXT not in self.asked.inputs:
            return []
        return [len(self._text(sample, _UNCUT).ids) for sample in samples if sample.text is not None]

    def _text(self, sample: Sample, length: int) -> Text:
        if not (sample.text and sample.text.strip()):
            raise UserError(f"{BrokenSample(sample.id, f'has no {MODALITIES[TEXT].noun}')}; give another file")
        if self.asked.read_in_text:
            return templated(self.codec, self.asked.template, sample.text, length, -1)
        return plain(self.codec, sample.text, length, self.asked.template or "{text}")


def padded(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Ids with 0 behind them up to the longest row, (B, N), and 1 where there is a token, both int64."""
    ids_BN = np.zeros((len(rows), max(_SHORTEST, *map(len, rows))), dtype=np.int64)
    for row, ids in enumerate(rows):
        ids_BN[row, : len(ids)] = ids
    lengths_B = np.array([len(ids) for ids in rows])
    return {"input_ids": ids_BN, "attention_mask": (np.arange(ids_BN.shape[1]) < lengths_B[:, None]).astype(np.int64)}


def unit(x_BD: np.ndarray) -> np.ndarray:
    """Vectors of length one, (B, D) float32."""
    return x_BD / np.maximum(np.linalg.norm(x_BD, axis=-1, keepdims=True), np.float32(_EPS))
