"""f: one encoder for inputs and candidates of all modalities, and the projection before the cosine.

Shape suffixes: B sequences, N tokens, D width, R read-outs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.model.attention import KeyValueCache
from uniperceiver.model.encoder import Encoder
from uniperceiver.model.prompts import Prompts
from uniperceiver.records import Encoded, Sequences, Tokens
from uniperceiver.tokenizers.join import SequenceTokenizer


class Head(nn.Module):
    """LayerNorm and linear map before the cosine, the same for inputs and candidates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.linear = nn.Linear(width, width)

    def forward(self, x_RD: Tensor) -> Tensor:
        return self.linear(self.norm(x_RD))


def mean_token(x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
    """The mean over the tokens of each sequence without padding, (B, 1, D)."""
    if valid_BN is None:
        return x_BND.mean(dim=1, keepdim=True)
    sum_B1D = x_BND.masked_fill(~valid_BN[:, :, None], 0.0).sum(dim=1, keepdim=True)
    return sum_B1D / valid_BN.sum(dim=1)[:, None, None]


def _count_load(model: "Generalist", keys: object) -> None:
    model.weights_changed()


class Generalist(nn.Module):
    """Tokenizers, encoder, head and temperatures: all the weights there are, shared by every task.

    Args:
        temperatures: names of the families; each has one learned scalar s, and cosines are multiplied by exp(s).
        max_scale: upper limit of exp(s).
        mean_readout: an answer that stands in no text is read as the mean over all tokens instead of at <SPE>.

    `weights_generation` is a number that rises whenever weights change.
    """

    def __init__(
        self,
        tokenizer: SequenceTokenizer,
        encoder: Encoder,
        head: Head,
        *,
        temperatures: Iterable[str],
        prompts: Prompts | None = None,
        max_scale: float = 100.0,
        likelihood_float32: bool = True,
        mean_readout: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.head, self.prompts = tokenizer, encoder, head, prompts
        # exp(s) starts at 1 / 0.07, as in CLIP.
        self.temperatures = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(1 / 0.07))) for name in temperatures}
        )
        self.max_scale, self.likelihood_float32 = max_scale, likelihood_float32
        self.mean_readout = mean_readout
        self.weights_generation = 0
        self.register_load_state_dict_post_hook(_count_load)

    def weights_changed(self) -> None:
        """Count a new generation of weights, so that what was computed with the old ones is not used again.

        Loading, moving (`.to()`), training and averaging call it; so must whoever changes weights by hand.
        """
        self.weights_generation += 1

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Generalist":
        super()._apply(fn, recurse)
        self.weights_changed()
        return self

    def encode(
        self,
        sequences: Sequences,
        stream: torch.Generator | None = None,
        *,
        summary: bool = False,
        keep_layers: bool = False,
    ) -> Encoded:
        """Encoder outputs of the sequences.

        Args:
            stream: what is random in training (DropPath, temporal offset) is drawn from it; None: nothing random.
            summary: only what a sequence is read by, (B, 1, D), is wanted: the output at <SPE>, or the mean.
            keep_layers: also return the embedded sequence's way through the layers.
        """
        tokens = self._tokens(sequences, stream)
        prompts = None if self.prompts is None else self.prompts.deep(sequences.facts.side)
        first = summary and not self.mean_readout
        encoded: Encoded = self.encoder(tokens, stream, prompts, summary=first, keep_layers=keep_layers)
        if summary and self.mean_readout:
            encoded = replace(encoded, x_BND=mean_token(encoded.x_BND, tokens.valid_BN))
        return encoded if tokens.regions is None else replace(encoded, regions=tokens.regions)

    def _tokens(self, sequences: Sequences, stream: torch.Generator | None = None) -> Tokens:
        if self.prompts is None:
            return self.tokenizer(sequences, stream)
        return self.tokenizer(sequences, stream, answer_D=self.prompts.answer, labels_KD=self.prompts.labels)

    def represent(self, x_RD: Tensor) -> Tensor:
        """Encoder outputs at read-out positions, through the head; not yet normalised."""
        return self.head(x_RD)

    def finish(self, logits_RK: Tensor, feature_RD: Tensor) -> Tensor:
        """Logits of a task with classes, where prompt tuning added a linear head (of `represent`'s result)."""
        return logits_RK if self.prompts is None else self.prompts.finish(logits_RK, feature_RD)

    def scale(self, temperature: str) -> Tensor:
        """exp(s) of a family, clamped: a constant (no gradient) above `max_scale`."""
        return self.temperatures[temperature].exp().clamp(max=self.max_scale)

    def begin(self, prefix: Sequences, words: int) -> tuple[KeyValueCache, Tensor]:
        """Encode prefixes for generation together with the query for the first word.

        Args:
            prefix: sequences whose text part is a single query.
            words: how many words there will be at most.

        Returns:
            The cache of the prefix, and the encoder outputs at the query, (B, D).

        Raises:
            UserError: more words than the model has text positions.
        """
        if words > (most := len(self.tokenizer.words.positions)):
            raise UserError(
                f"cannot write a text of {words} tokens: the model has {most} text positions; ask for fewer"
            )
        cache = KeyValueCache(len(self.encoder.blocks), room=words + 1)
        tokens = self._tokens(prefix)
        cache.text = tokens.segments[-1]
        prompts = None if self.prompts is None else self.prompts.deep(prefix.facts.side)
        x_BND = self.encoder(tokens, prompts=prompts, cache=cache).x_BND
        cache.keep(x_BND.shape[1] - 1 + (0 if prompts is None else len(prompts[0])))
        return cache, x_BND[:, -1]

    def extend(self, cache: KeyValueCache, word_B: Tensor, place: int) -> Tensor:
        """One pass for a new word (the place-th, from 1) and the query for the next: outputs at the query, (B, D)."""
        query_B = torch.full_like(word_B, self.tokenizer.words.answer)
        ids_B2 = torch.stack([word_B, query_B], dim=1)
        position_2 = torch.tensor([place - 1, place], device=word_B.device)
        answer_D = None if self.prompts is None else self.prompts.answer
        x_B2D = self.tokenizer.norm(self.tokenizer.words(ids_B2, position_2.expand_as(ids_B2), answer_D))
        order_B2 = (position_2 + 1).expand_as(ids_B2)
        is_query_B2 = torch.tensor([False, True], device=word_B.device).expand_as(ids_B2)
        assert cache.text is not None
        segments = (replace(cache.text, start=0, stop=2),)
        tokens = Tokens(x_BND=x_B2D, segments=segments, order_BN=order_B2, query_BN=is_query_B2)
        x_B2D = self.encoder(tokens, cache=cache).x_BND
        cache.keep(1)
        return x_B2D[:, 1]
