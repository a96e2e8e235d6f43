"""Eight colours that everybody can tell apart, for light and for dark grounds, and which of two inks is read on one.

They were searched for, at given hues: any two of them stay at least 0.095 apart in OKLab (the first four 0.13) for
normal sight and for full protanopia, deuteranopia and tritanopia as simulated by Machado et al. 2009, and their
contrast to the card of a page is 3 : 1 or more.
"""

LIGHT_TONES = ("#2563c9", "#c88011", "#0a4a23", "#8f2378", "#6e6d08", "#2296a8", "#987aef", "#d04a67")
# Bright ones, also for photographs, where a dark line goes around them.
DARK_TONES = ("#3186e9", "#fca000", "#0cd6ac", "#b95a93", "#e7e64b", "#9eedfc", "#a5a0ed", "#e66639")


def class_tone(index: int) -> str:
    """The colour of a class in photographs, #rrggbb; more classes begin again."""
    return DARK_TONES[index % len(DARK_TONES)]


def ink_on(colour: str) -> str:
    """Black or white, whichever has more contrast to a colour (WCAG 2.2)."""
    shares = [value / 255 for value in bytes.fromhex(colour.removeprefix("#"))]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
