"""The model card: the README.md that lies beside saved weights."""

from collections.abc import Iterable, Sequence

from uniperceiver.model.architecture import Architecture, PromptShape
from uniperceiver.tasks.task import Task

_CARD = """# A uniperceiver model

One Transformer encoder for images, video and text; every answer is the candidate with the highest cosine.

- {layers} layers, width {width}, {heads} heads, patches of {patch} x {patch} pixels, vocabulary of {vocabulary}
- trained: {trained}
{experts}{prompts}
| task | input | answers |
|---|---|---|
{tasks}

```python
from uniperceiver import load

model = load("path/of/this/folder")
model.classify("picture.jpg", labels=["a cat", "a dog"])
```

Limits: the model knows what its training data show, and no more. Probabilities are relative to the candidates that
it is given; a wrong set of candidates still adds up to 1.
"""


def model_card(
    arch: Architecture, tasks: Sequence[Task], trained: str, *, alone: bool = True, code: Sequence[str] = ()
) -> str:
    """The card's Markdown text.

    Args:
        alone: the weights beside it are all that there are, not only those that were tuned.
        code: names of the Python files beside it, without which it cannot be loaded.
    """
    rows = [f"| {task.name} | {' + '.join(task.inputs)} | {task.answer.described(task)} |" for task in tasks]
    return _CARD.format(
        layers=arch.layers,
        width=arch.width,
        heads=arch.heads,
        patch=arch.patch,
        vocabulary=arch.vocabulary,
        trained=trained or "not at all",
        experts=_experts(arch),
        prompts=_prompts(arch, alone) + _code(code),
        tasks="\n".join(rows),
    )


def _experts(arch: Architecture) -> str:
    """A line about experts, or about what they became; nothing for a dense model."""
    moe, merged = arch.moe, arch.merged
    if moe is None:
        return ""
    chosen = f"{moe.experts} experts chosen by {moe.condition}, {moe.k} at a time"
    if merged is None:
        return f"- experts: {chosen}\n"
    rows = f"at most {merged.rows} sets of weights" if merged.rows > 1 else "one set of weights"
    return f"- merged: {chosen}, became {rows}; it answers only what these tasks need: {', '.join(merged.tasks)}\n"


def _prompts(arch: Architecture, alone: bool) -> str:
    """A line about what prompt tuning added; nothing where it did not."""
    if arch.prompts is None:
        return ""
    held = "" if alone else "; here are only the tuned parameters: config.json names the model that they belong to"
    return f"- tuned: {described(arch.prompts)}{held}\n"


def _code(names: Sequence[str]) -> str:
    """A line about Python files beside the weights; nothing where there are none."""
    if not names:
        return ""
    return (
        f"- needs code of its own, here beside the weights: {', '.join(names)}; read it, then load(..., trust=True)\n"
    )


def described(prompts: PromptShape) -> str:
    """What prompt tuning added, in a few words."""
    side = f" and {prompts.candidates} for candidates" if prompts.candidates else ""
    head = f", a linear head for {prompts.classes} classes" if prompts.classes else ""
    labels = f", a vector for each of {prompts.labels} classes" if prompts.labels else ""
    return f"{prompts.vectors} prompts in each layer{side}{head}{labels}"


def in_words(arch: Architecture, parameters: int, tasks: Iterable[str]) -> str:
    """What a loaded model is, in a few words."""
    parts = [f"{arch.layers} layers of width {arch.width}", f"{parameters:,} parameters"]
    if arch.moe is not None:
        parts.append(f"{arch.moe.experts} experts by {arch.moe.condition}{'' if arch.merged is None else ', merged'}")
    return ", ".join([*parts, f"tasks: {', '.join(tasks) or '(none)'}"])
