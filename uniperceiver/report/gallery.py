"""Examples: what the model saw, what is right, and what it answered."""

from collections.abc import Sequence

from uniperceiver.evaluation.examples import Example
from uniperceiver.report.contents import RunReport, tasks_of
from uniperceiver.report.markup import Html, element, join, shortened
from uniperceiver.report.numbers import finite
from uniperceiver.report.pictures import Picture, fit_pictures
from uniperceiver.report.tones import tone

_PICTURES_BYTES = 3_000_000
_TEXT, _ANSWER, _NAME = 420, 240, 80  # longest texts in characters
_TRUTHS, _ANSWERS = 5, 5
_LARGE = 80  # from this width on a picture is scaled smoothly


def gallery_section(report: RunReport) -> Html | None:
    """The examples by task; None where there are none."""
    if not report.examples:
        return None
    pictures = fit_pictures([each.frames for each in report.examples], _PICTURES_BYTES)
    pairs = list(zip(report.examples, pictures, strict=True))
    groups = (_group(report, task, [pair for pair in pairs if pair[0].task == task]) for task in tasks_of(report))
    return element("section", element("h2", "Examples"), *groups, id="examples")


def _group(report: RunReport, task: str, pairs: Sequence[tuple[Example, Picture | None]]) -> Html | None:
    if not pairs:
        return None
    judged = [example.right for example, _ in pairs if example.right is not None]
    tally = f"{sum(judged)} of {len(judged)} right" if judged else None
    return element(
        "div",
        element("h3", element("span", task), element("small", tally) if tally else None),
        element("div", *(_example(example, picture) for example, picture in pairs), class_="examples"),
        class_="group task",
        style=tone(report, task),
    )


def _example(example: Example, picture: Picture | None) -> Html:
    verdict = {None: None, True: ("✓ right", "mark good"), False: ("✗ wrong", "mark bad")}[example.right]
    return element(
        "article",
        _shown(example, picture),
        element(
            "div",
            element("blockquote", shortened(example.text, _TEXT), dir="auto") if example.text else None,
            _answers(example),
            _truth(example.truth),
            element(
                "footer",
                element(
                    "span", f"{example.split} · {_short_name(example.sample)}", class_="sample", title=example.sample
                ),
                element("span", verdict[0], class_=verdict[1]) if verdict else None,
            ),
            class_="said",
        ),
        class_="example",
    )


def _shown(example: Example, picture: Picture | None) -> Html | None:
    if picture is None:
        return element("div", "picture left out", class_="seen none") if example.frames else None
    sharp = " sharp" if max(picture.width, picture.height) < _LARGE else ""
    moving = " moving" if picture.strip else ""
    image = element(
        "img",
        src=picture.uri,
        alt=shortened("; ".join(example.truth) or example.sample, _NAME),
        width=picture.width,
        height=picture.height,
        class_=f"picture{moving}{sharp}",
        loading="lazy",
    )
    frames = (element("img", src=uri, alt="", class_=f"frame{sharp}", loading="lazy") for uri in picture.strip)
    strip = element("div", *frames, class_="strip") if picture.strip else None
    return join(element("div", image, class_="seen"), strip)


def _answers(example: Example) -> Html | None:
    """The answers, best first: bars where they have a probability, plain sentences where they have none."""
    if not example.answers:
        return None
    right = {_plain(each) for each in example.truth}
    rows = []
    for text, probability in example.answers[:_ANSWERS]:
        share, shown = finite(probability), shortened(text, _ANSWER)
        if share is None:
            rows.append(element("p", shown, class_="sentence", dir="auto"))
            continue
        width = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
        rows.append(
            element(
                "div",
                element("span", shown, class_="candidate", dir="auto"),
                element("span", _percent(share), class_="share"),
                element("span", element("i", style=width), class_="length"),
                class_="answer right" if _plain(text) in right else "answer",
            )
        )
    return element("div", *rows, class_="answers")


def _truth(truth: Sequence[str]) -> Html | None:
    if not truth:
        return None
    texts = [element("li", shortened(each, _ANSWER), dir="auto") for each in truth[:_TRUTHS]]
    if len(truth) > _TRUTHS:
        texts.append(element("li", f"and {len(truth) - _TRUTHS} more", class_="more"))
    return element("div", element("span", "truth", class_="label"), element("ul", *texts), class_="truth")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _percent(share: float) -> str:
    """Whole per cents, without claiming certainty or impossibility."""
    if 0 < share < 0.01:
        return "<1\u202f%"
    return ">99\u202f%" if 0.99 < share < 1 else f"{100 * share:.0f}\u202f%"


def _short_name(name: str) -> str:
    """The file's own name; the folders before it stand in the tooltip."""
    return name.rstrip("/").rsplit("/", 1)[-1]
