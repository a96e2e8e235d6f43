"""Prompts: texts with a place for the name of a class, which they put into words."""

from collections.abc import Sequence

LABEL = "{label}"  # where the name stands


def filled(labels: Sequence[Sequence[str]], prompts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The texts of every class: each of its own in each prompt; without prompts, its own."""
    if not prompts:
        return tuple(map(tuple, labels))
    return tuple(tuple(prompt.replace(LABEL, text) for text in texts for prompt in prompts) for texts in labels)


def wrong_prompt(prompts: Sequence[str]) -> str | None:
    """The first prompt in which a name has no place, or several; None: all are right."""
    return next((prompt for prompt in prompts if prompt.count(LABEL) != 1), None)
