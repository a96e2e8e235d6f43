"""Scenes as words: captions, each of which tells all that is worth telling, and paragraphs for language modelling.

Every sentence is true of every frame. The choice of words is a function of the scene's own seed.
"""

from uniperceiver.data.scenes.scene import INVERSE, Scene, Thing, place_of, relation

COUNTS = ("one", "two", "three", "four", "five")
VERBS = {
    "still": ("stays still", "does not move"),
    "moving left": ("moves left", "slides left"),
    "moving right": ("moves right", "slides right"),
    "moving up": ("moves up", "rises"),
    "moving down": ("moves down", "sinks"),
    "growing": ("grows", "gets bigger"),
    "shrinking": ("shrinks", "gets smaller"),
    "circling": ("circles", "goes round in a circle"),
}
PARTICIPLES = {
    "still": ("standing still", "not moving"),
    "moving left": ("moving left", "sliding left"),
    "moving right": ("moving right", "sliding right"),
    "moving up": ("moving up", "rising"),
    "moving down": ("moving down", "sinking"),
    "growing": ("growing", "getting bigger"),
    "shrinking": ("shrinking", "getting smaller"),
    "circling": ("circling", "going round in a circle"),
}
RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
PLACES = {
    ("left", "top"): ("in the top left corner", "at the top left"),
    ("centre", "top"): ("at the top", "near the top edge"),
    ("right", "top"): ("in the top right corner", "at the top right"),
    ("left", "centre"): ("on the left", "near the left edge"),
    ("centre", "centre"): ("in the centre", "in the middle"),
    ("right", "centre"): ("on the right", "near the right edge"),
    ("left", "bottom"): ("in the bottom left corner", "at the bottom left"),
    ("centre", "bottom"): ("at the bottom", "near the bottom edge"),
    ("right", "bottom"): ("in the bottom right corner", "at the bottom right"),
}


def describe(scene: Scene) -> tuple[str, ...]:
    """Four or five captions in different grammar, the first one drawn.

    Each names size, colour and shape of every thing, its motion in a clip, and its place (one thing) or its relation
    to the foreground (several); a thing that travels has no place.
    """
    match len(scene.things):
        case 1:
            captions = _single(scene)
        case 2:
            captions = _two_moving(scene) if scene.moving else _two(scene)
        case _:
            captions = _many(scene)
    start = scene.seed % len(captions)
    return captions[start:] + captions[:start]


def paragraph(scene: Scene) -> str:
    """Two to four sentences that say much twice, so that a masked word can often be worked out from the others."""
    first, *others = scene.things
    count = len(scene.things)
    if count == 1:
        opening = [f"there is one shape, {_a(first)}."]
    else:
        opening = [f"there are {COUNTS[count - 1]} shapes: {_join([_a(thing) for thing in scene.things])}."]
    if place := _place(scene, 5):
        opening.append(f"the {_short(first)} is {place}.")
    facts = [_both_ways(scene, first, other) for other in others[:2]]
    if scene.moving:
        facts.append(
            _join([f"the {_short(thing)} {VERBS[thing.motion][_bit(scene, 6)]}" for thing in scene.things]) + "."
        )
    if others and _bit(scene, 7):
        other = others[_bit(scene, 8) % len(others)]
        facts.append(f"the {_short(first)} is larger than the {_short(other)}.")
    if count == 1:
        facts.append(f"the {first.colour} shape is a {first.shape} and it is {first.size}.")
    return " ".join((opening + facts)[:4])


def _single(scene: Scene) -> tuple[str, ...]:
    thing = scene.things[0]
    short, long = f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {_short(thing)}", _a(thing)
    place = _place(scene, 0)
    if not scene.moving:
        return (
            f"{long} {place}",
            f"there is {long} {place}",
            f"{place} is {long}",
            f"{short} {place}, and it is {thing.size}",
            f"the {_short(thing)} {place} is {thing.size}",
        )
    verb, participle = VERBS[thing.motion][_bit(scene, 1)], PARTICIPLES[thing.motion][_bit(scene, 2)]
    where = f" {place}" if place else ""
    return (
        f"{long} {participle}{where}",
        f"{long} that {verb}{where}",
        f"there is {long}{where} and it {verb}",
        f"{short}{where} {participle}, and it is {thing.size}",
        f"the {_short(thing)}{where} is {thing.size} and {verb}",
    )


def _two(scene: Scene) -> tuple[str, ...]:
    """Only for scenes that stand still."""
    a, b = scene.things
    there, back = _relations(scene, a, b)
    return (
        f"{_a(a)} {there} {_a(b)}",
        f"{_a(b)} {back} {_a(a)}",
        f"{there} {_a(b)} is {_a(a)}",
        f"there is {_a(a)} with {_a(b)} {back} it",
        f"{_a(b)} and {_a(a)}, the {a.colour} one {there} the {b.colour} one",
    )


def _two_moving(scene: Scene) -> tuple[str, ...]:
    a, b = scene.things
    there, back = _relations(scene, a, b)
    (a_does, b_does), (a_doing, b_doing) = (
        [words[thing.motion][_bit(scene, bit)] for thing in (a, b)] for bit, words in ((1, VERBS), (2, PARTICIPLES))
    )
    return (
        f"{_a(a)} {a_does} {there} {_a(b)} that {b_does}",
        f"{_a(b)} {b_does} {back} {_a(a)} that {a_does}",
        f"{_a(a)} {a_doing} and, {back} it, {_a(b)} {b_doing}",
        f"{there} {_a(b)} that {b_does} is {_a(a)} {a_doing}",
        f"there is {_a(b)} {b_doing}, {back} {_a(a)} {a_doing}",
    )


def _many(scene: Scene) -> tuple[str, ...]:
    first, *others = scene.things
    doing = {
        thing.colour: f" {PARTICIPLES[thing.motion][_bit(scene, 2)]}" if scene.moving else "" for thing in scene.things
    }
    backs = [(_a(thing) + doing[thing.colour], _relations(scene, first, thing)[1]) for thing in others]
    head, foreground = _a(first) + doing[first.colour], f"the {first.colour} one"
    return (
        f"{head}, with {_join([f'{text} {back} it' for text, back in backs])}",
        f"{_join([f'{text} {back} {foreground}' for text, back in backs[::-1]])}, and {head}",
        f"there is {head}, and {_join([f'{back} it {text}' for text, back in backs])}",
        f"we see {head}, {_join([f'{text} is {back} it' for text, back in backs[::-1]])}",
    )


def _both_ways(scene: Scene, a: Thing, b: Thing) -> str:
    """A relation and its inverse, in an order that the scene's seed decides."""
    there, back = _relations(scene, a, b)
    if _bit(scene, 9):
        a, b, there, back = b, a, back, there
    return f"the {_short(a)} is {there} the {_short(b)}, so the {_short(b)} is {back} the {_short(a)}."


def _relations(scene: Scene, a: Thing, b: Thing) -> tuple[str, str]:
    """Where a is, seen from b, and where b is, seen from a."""
    there = relation(a, b)
    # "moving left left of" is hard to read: clips take the longer form.
    sideways = scene.moving and there in ("left of", "right of")
    choices = (1, 1) if sideways else (_bit(scene, 3), _bit(scene, 4))
    return RELATIONS[there][choices[0]], RELATIONS[INVERSE[there]][choices[1]]


def _place(scene: Scene, bit: int) -> str:
    """Where a thing alone is; empty if it travels or is not alone."""
    first = scene.things[0]
    if len(scene.things) > 1 or (scene.moving and first.travel):
        return ""
    return PLACES[place_of(first)][_bit(scene, bit)]


def _short(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _a(thing: Thing) -> str:
    return f"a {thing.size} {thing.colour} {thing.shape}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _bit(scene: Scene, place: int) -> int:
    """A coin of the scene: chooses between two synonyms. The low bits choose the order of the captions."""
    return scene.seed >> (8 + place) & 1
