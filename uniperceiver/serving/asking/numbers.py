"""What is said of numbers that a model is asked with or answers with. Nothing here needs torch."""

import math
from collections.abc import Sequence

import numpy as np

from uniperceiver.errors import UserError, warn
from uniperceiver.serving.values import shown


def tell_cut(lengths: Sequence[int], length: int, task: str) -> None:
    """Say how many texts are longer than a task reads, if any are.

    Args:
        lengths: of the texts, in tokens.
        length: that the task reads.
        task: its name.
    """
    longer = sum(tokens > length for tokens in lengths)
    if longer:
        warn(
            f"{longer:,} of {len(lengths):,} texts are longer than the {length} tokens that task {task!r} reads, and "
            f"were cut; the longest has {max(lengths):,}: shorten them, or split them"
        )


def refuse_unbounded(all_finite: bool, mend: str) -> None:
    """Refuse to answer from numbers that are not finite: of NaN, any candidate would be the first.

    Args:
        mend: what to do about it.

    Raises:
        UserError: they are not.
    """
    if not all_finite:
        raise UserError(f"the model's numbers are not finite, so it has no answer; its training went wrong: {mend}")


def check_things(call: str, least: float, most: int) -> None:
    """Refuse what things cannot be asked for with.

    Raises:
        UserError: a number out of its range.
    """
    if not isinstance(least, int | float | np.floating) or not 0 <= least <= 1:
        raise UserError(f"{call}: least must lie between 0 and 1, found {shown(least)}")
    if not isinstance(most, int | np.integer) or isinstance(most, bool) or most < 1:
        raise UserError(f"{call}: most must be a number of detections, 1 or more, found {shown(most)}")


def check_caption(beam: int, most: int, max_words: int, length_penalty: float) -> None:
    """Refuse what no caption can be asked for with.

    Args:
        most: beams: the words of the vocabulary.

    Raises:
        UserError: a number out of its range.
    """
    if not isinstance(beam, int) or not 1 <= beam <= most:
        raise UserError(f"caption: beam must lie between 1 and the vocabulary's {most}, found {shown(beam)}")
    if not isinstance(max_words, int) or max_words < 1:
        raise UserError(f"caption: max_words must be a number of tokens, 1 or more, found {shown(max_words)}")
    if not isinstance(length_penalty, int | float) or not 0 <= length_penalty < math.inf:
        raise UserError(f"caption: length_penalty must be a number, 0 or more, found {shown(length_penalty)}")
