"""Colours of pages and figures: one set for light and one for dark, and a palette that everybody can tell apart.

Figures are drawn in the light colours; where they stand in a page, each becomes a variable of the page's style sheet,
so that it follows the reader's choice of light or dark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Holds the colours of a page as #rrggbb; a field `good_ground` is `--good-ground` in the style sheet."""

    ground: str
    card: str
    ink: str
    soft: str
    faint: str
    line: str
    sunk: str
    good: str
    good_ground: str
    bad: str
    bad_ground: str
    open: str
    open_ground: str
    helps: str
    hurts: str
    missing: str
    tones: tuple[str, ...]  # of tasks or arms, in their order


# The eight tones were searched for, at given hues: any two of them stay at least 0.095 apart in OKLab (the first four
# 0.13) for normal sight and for full protanopia, deuteranopia and tritanopia as simulated by Machado et al. 2009, and
# their contrast to the card is 3 : 1 or more.
LIGHT = Theme(
    ground="#f5f6f8",
    card="#ffffff",
    ink="#14171c",
    soft="#59616e",
    faint="#8b93a1",
    line="#e2e5ea",
    sunk="#eef0f3",
    good="#0f7a50",
    good_ground="#dff3e9",
    bad="#b2321f",
    bad_ground="#fbe5e1",
    open="#6b5a17",
    open_ground="#f6efd2",
    helps="#6ea8f2",
    hurts="#f2917a",
    missing="#d6dae0",
    tones=("#2563c9", "#c88011", "#0a4a23", "#8f2378", "#6e6d08", "#2296a8", "#987aef", "#d04a67"),
)
DARK = Theme(
    ground="#0f1216",
    card="#181c22",
    ink="#eceff3",
    soft="#a3acb9",
    faint="#717b89",
    line="#2a3038",
    sunk="#20252c",
    good="#56cf9c",
    good_ground="#15352a",
    bad="#ff8d78",
    bad_ground="#40201b",
    open="#e2c766",
    open_ground="#383017",
    helps="#2c63b8",
    hurts="#a8432d",
    missing="#3a414b",
    tones=("#3186e9", "#fca000", "#0cd6ac", "#b95a93", "#e7e64b", "#9eedfc", "#a5a0ed", "#e66639"),
)
TONES = len(LIGHT.tones)


def tone_of(names: Sequence[str], name: str) -> int:
    """Find the place of a name's colour in the palette, 0 to TONES - 1; more names begin again, others come last."""
    return (names.index(name) if name in names else len(names)) % TONES


def variables(theme: Theme) -> Iterator[tuple[str, str]]:
    """List the variables of the style sheet with their colours: ("--good-ground", "#dff3e9"), ("--tone-0", ...)."""
    for field in fields(theme):
        value = getattr(theme, field.name)
        if isinstance(value, str):
            yield f"--{field.name.replace('_', '-')}", value
    for place, colour in enumerate(theme.tones):
        yield f"--tone-{place}", colour
