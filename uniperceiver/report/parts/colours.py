"""Colours of pages and figures: one set for light and one for dark, and a palette that everybody can tell apart.

Figures are drawn in the light colours; where they stand in a page, each becomes a variable of the page's style sheet,
so that it follows the reader's choice of light or dark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from uniperceiver.palette import DARK_TONES, LIGHT_TONES


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
    tones=LIGHT_TONES,
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
    tones=DARK_TONES,
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
