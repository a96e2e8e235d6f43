"""Experts in a model of your own: plain torch, no recipe, no record of this library.

Sentences of numbers in two languages are read by one small model. Its FFN has experts by tag, the language; its output
has experts by token, kept from collapse by a balance loss."""

import torch
from torch import Tensor, nn

from uniperceiver.moe import MixtureFeedForward, MixtureLinear

WORDS, WIDTH, LANGUAGES = 12, 32, 2


class Translator(nn.Module):
    """Somebody else's model: (B, N) words and the language of each sequence -> logits of the translated words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.ffn = MixtureFeedForward(WIDTH, 2 * WIDTH, experts=4, k=2, condition="task", tags=LANGUAGES)
        self.out = MixtureLinear(WIDTH, WORDS, experts=4, k=2, condition="token")

    def forward(self, words: Tensor, languages: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(words)
        x = x + self.ffn(self.norm(x), tags=languages[:, None])  # one tag for all words of a sequence
        routing = self.out.router(x)
        return self.out(x, routing=routing), routing.balance_loss(switch=0.01)


def sentences(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Words, languages and translations: one language counts up, the other one counts down."""
    words = torch.randint(0, WORDS, (count, 5), generator=generator)
    languages = torch.randint(0, LANGUAGES, (count,), generator=generator)
    return words, languages, (words + torch.where(languages == 0, 1, -1)[:, None]) % WORDS


def main(steps: int = 150) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Translator()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(steps):
        words, languages, targets = sentences(32, generator)
        logits, balance = model(words, languages)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) + balance
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")
    words, languages, targets = sentences(200, generator)
    print(f"right: {float((model.eval()(words, languages)[0].argmax(-1) == targets).float().mean()):.0%}")


if __name__ == "__main__":
    main()
