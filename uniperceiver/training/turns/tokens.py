"""How many tokens a batch has that are encoded, counted from shapes and masks before it goes to a device."""

from dataclasses import dataclass, replace

from uniperceiver.modalities import TEXT
from uniperceiver.records import Sequences
from uniperceiver.tokenizers.join import SequenceTokenizer


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """Tokens of a batch."""

    valid: int = 0  # of inputs and candidates
    encoded: int = 0  # those and their padding
    inputs: int = 0  # of these, those of the inputs

    def plus(self, other: "TokenCount") -> "TokenCount":
        """Both together."""
        return TokenCount(
            valid=self.valid + other.valid, encoded=self.encoded + other.encoded, inputs=self.inputs + other.inputs
        )


def of_batch(inputs: Sequences, candidates: Sequences | None, tokenizer: SequenceTokenizer) -> TokenCount | None:
    """The tokens of a batch; None: a tokenizer does not tell how many it makes.

    Args:
        candidates: None: they are encoded elsewhere, for all batches of a step.
    """
    own = _counted(inputs, tokenizer)
    others = TokenCount() if candidates is None else _counted(candidates, tokenizer)
    return own and others and replace(own.plus(others), inputs=own.encoded)


def _counted(sequences: Sequences, tokenizer: SequenceTokenizer) -> TokenCount | None:
    """The tokens of sequences, <SPE> among them; None: a tokenizer does not tell how many it makes.

    Args:
        sequences: on the CPU, where masks are added up without waiting for a device.
    """
    valid = encoded = sequences.size
    for part in sequences.parts:
        if part.modality == TEXT:
            count = part.values.numel()
            valid += count if part.valid_BN is None else int(part.valid_BN.sum())
        else:
            of_value = tokenizer.count(part.modality, part.values.shape[1:])
            if of_value is None:
                return None
            count = sequences.size * (of_value if part.keep_BG is None else part.keep_BG.shape[1])
            valid += count
        encoded += count
    return TokenCount(valid=valid, encoded=encoded)
