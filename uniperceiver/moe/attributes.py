"""The eight attributes of a segment, and the two meanings of their bits.

Layout `paper` (Uni-Perceiver-MoE, Table 2): 0 visual in inputs, 1 text in inputs, 2 visual in targets, 3 text in
targets, 4 token visual, 5 token text, 6 causal attention mask, 7 token from inputs. Layout `release`, which the
original weights need: 6 token from targets, 7 causal, and bit 0 set on every candidate.
"""

from collections.abc import Sequence

from uniperceiver.records import Segment


def paper_bits(segment: Segment) -> tuple[int, ...]:
    """The attributes of a segment as the paper defines them, derived from its facts."""
    facts = segment.facts
    yes = (
        "visual" in facts.inputs,
        "text" in facts.inputs,
        "visual" in facts.targets,
        "text" in facts.targets,
        segment.kind == "visual",
        segment.kind == "text",
        segment.causal,
        facts.side == "input",
    )
    return tuple(int(each) for each in yes)


def exchange(bits: Sequence[int]) -> tuple[int, ...]:
    """Paper's bits 6 and 7 as the release numbers them: a bijection on the 256 codes."""
    causal, from_inputs = bits[6], bits[7]
    return (*bits[:6], 1 - from_inputs, causal)


def release_bits(segment: Segment) -> tuple[int, ...]:
    """The attributes as the original weights were trained with them."""
    bits = exchange(paper_bits(segment))
    return (1, *bits[1:]) if segment.facts.side == "candidate" else bits


LAYOUTS = {"paper": paper_bits, "release": release_bits}
