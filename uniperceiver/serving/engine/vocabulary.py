"""The encoded vocabulary of a large model, kept beside it: tens of thousands of words take minutes to encode.

A file holds the words for one kind of candidates, and a mark of all that they were made from: the weights as they are
in memory, the words, what routing sees, torch and the kind of device. Another mark, or damage, and they are made anew.

Shape suffixes: V words of the vocabulary, D width.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from uniperceiver.atomic import whole_file
from uniperceiver.errors import warn
from uniperceiver.model.model import Generalist
from uniperceiver.serving.saved import ENCODED
from uniperceiver.tasks.candidates import Candidates, represent_candidates, rows_of
from uniperceiver.waiting import bars

_WORTH = 1e11  # words times parameters: a few seconds on a CPU
_CHUNK = 2048  # words encoded together, as everywhere else: the same bits
_NAME, _MARK = "words_VD", "made_from"


def is_worth_keeping(model: Generalist, candidates: Candidates) -> bool:
    """Whether encoding takes so long that it is shown, and kept."""
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    return candidates.sequences.size * encoder >= _WORTH


class KeptVocabulary:
    """All words of a model as candidates of a task, from the file beside the model, or made and put there.

    Args:
        home: the folder of the saved model; None: nothing is read or written.
    """

    def __init__(self, model: Generalist, candidates: Candidates, home: Path | None) -> None:
        self._model, self._sequences = model, candidates.sequences
        self._words_VN = candidates.sequences.parts[-1].values
        facts = hashlib.sha256(repr(self._sequences.facts).encode()).hexdigest()
        self._path = None if home is None else home / ENCODED.format(facts[:8])

    def get(self) -> Tensor:
        """Their representations, (V, D) float32, on the model's device."""
        if self._path is None:
            return self._encode("")
        mark = self._mark()
        kept_VD = self._read(mark)
        return self._make(self._path, mark) if kept_VD is None else kept_VD

    def _mark(self) -> str:
        """SHA-256 of everything that the representations depend on."""
        words_VN = self._words_VN
        digest = hashlib.sha256(f"{torch.__version__} {words_VN.device.type} {self._sequences.facts}".encode())
        for name, value in sorted({**self._model.state_dict(), "words": words_VN}.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _read(self, mark: str) -> Tensor | None:
        assert self._path is not None
        if not self._path.is_file():
            return None
        try:
            with safe_open(self._path, "pt") as file:
                fits = (file.metadata() or {}).get(_MARK) == mark
                return file.get_tensor(_NAME).clone().to(self._words_VN.device) if fits else None
        except (OSError, SafetensorError) as error:
            warn(f"{self._path}: damaged ({error}); the words of the vocabulary are encoded anew")
            return None

    def _make(self, path: Path, mark: str) -> Tensor:
        words_VD = self._encode(", and kept beside the model for the next time")
        try:
            with whole_file(path) as file:
                file.write(save({_NAME: words_VD.cpu()}, {_MARK: mark}))
        except OSError as error:
            warn(f"{path}: cannot be kept ({error.strerror}); the next process encodes the vocabulary again")
        return words_VD

    @torch.no_grad()
    def _encode(self, then: str) -> Tensor:
        size = self._sequences.size
        warn(f"{size:,} words of the vocabulary are encoded{then}")
        parts = []
        with bars() as shown:
            for start in range(0, size, _CHUNK):
                rows = rows_of(self._sequences, slice(start, start + _CHUNK))
                parts.append(represent_candidates(self._model, Candidates(sequences=rows)))
                shown.move("vocabulary", min(start + _CHUNK, size), size)
        return torch.cat(parts).float()
