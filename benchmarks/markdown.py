"""Markdown, as the tables of the documents are written."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of cells, line by line."""
    rows = [f"| {' | '.join(cells)} |" for cells in (head, *lines)]
    return "\n".join([rows[0], "|---" * len(head) + "|", *rows[1:]])
