"""The page of a run: whole, self-contained, deaf to what texts pretend to be, and small."""

import dataclasses
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tests.report.made_up import a_log, a_report, some_examples, some_results
from uniperceiver.evaluation.examples import Example
from uniperceiver.report.markup import element, escaped
from uniperceiver.report.run_report import RunReport, render

EVIL = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" onmouseover='x' & </pre>\x00\ud800\u202e"
)
EMPTY_ELEMENTS = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in EMPTY_ELEMENTS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def an_evil_report() -> RunReport:
    image = np.zeros((9, 7, 3), np.uint8)
    figures = {EVIL: 0.5, f"{EVIL}_low": 0.4, f"{EVIL}_high": 0.6, "chance": 0.1}
    log = [
        {"event": "train", "step": 1, f"{EVIL}/loss": 1.0},
        {"event": "evaluate", "step": 1, f"{EVIL}/{EVIL.replace('/', '')}/accuracy": 0.4},
        {"event": "broken", "step": 1, "task": EVIL, "sample": EVIL, "reason": EVIL},
        {"event": "skipped", "step": 1, "reason": EVIL, "samples": {EVIL: [EVIL]}},
        {"event": "note", "step": 1, "text": EVIL},
    ]
    example = Example(
        task=EVIL,
        split=EVIL,
        sample=EVIL,
        frames=(image, image),
        text=EVIL,
        truth=(EVIL,),
        answers=((EVIL, 0.5), (EVIL, None)),
    )
    return RunReport(
        title=EVIL,
        facts={EVIL: EVIL},
        recipe=f"{EVIL}: {EVIL}\n# {EVIL}",
        log=log,
        results={EVIL: {EVIL: figures}},
        main_metrics={EVIL: EVIL},
        examples=[example],
    )


def test_a_whole_run_has_all_its_sections() -> None:
    text = render(a_report())
    page = Page(text)
    wanted = (
        "Tasks",
        "Examples",
        "Curves",
        "All figures",
        "Recipe",
        "2 of 3 tasks clearly above chance on held-out data",
    )
    for words in wanted:
        assert words in page.text
    assert page.tags.count("svg") == 3 + 3 + 4  # losses, validation, the run
    assert {"learning rate", "gradient norm", "samples per second"} <= set(page.words)


def test_the_page_needs_nothing_else() -> None:
    page = Page(render(a_report()))
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(page.tags)
    for name, value in page.attributes:
        if name == "src":
            assert value.startswith("data:image/")
        if name == "href":
            assert value.startswith("#")
    assert not re.search(r"https?:|@import|url\(", render(a_report()))


def test_texts_never_become_tags() -> None:
    text = render(an_evil_report())
    page = Page(text)
    assert not {"script", "x"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "<script" not in text
    assert not re.search("[\x00\u202e\ud800]", text)
    text.encode("utf-8")
    assert page.text.count("alert(1)") > 10  # it is shown, as text


def test_an_attribute_cannot_be_left() -> None:
    assert element("i", title='" onclick="x').text == '<i title="&quot; onclick=&quot;x"></i>'
    assert escaped("a<b>&\ud800") == "a&lt;b&gt;&amp;\ufffd"


@pytest.mark.parametrize(
    "changes",
    [
        {"log": [], "results": {}, "main_metrics": {}, "examples": [], "facts": {}, "recipe": ""},
        {"log": []},
        {"results": {"birds": {}}},
        {"results": {"birds": {"val": {}}}},
        {"results": {"birds": {"val": {"n": 3}}}},
        {"examples": [Example(task="new", split="val", sample="")]},
        {"examples": [Example(task="new", split="val", sample="0", frames=(np.zeros((0, 3, 3), np.uint8),))]},
        {"log": a_log(["birds"], 1)},
        {"log": [{"event": "train"}, {"event": "train", "step": 0, "birds/loss": 1e308, "lr": "x"}, {}]},
    ],
)
def test_whatever_is_missing_leaves_a_page(changes: dict[str, Any]) -> None:
    Page(render(a_report(**changes)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, None, True])
def test_figures_that_are_no_numbers_are_dashes(value: Any) -> None:
    metrics = {"accuracy@1": value, "accuracy@1_low": value, "accuracy@1_high": value, "chance": value, "n": value}
    log = [
        {**line, **dict.fromkeys([key for key in line if key not in ("event", "step")], value)}
        for line in a_log(["a"], 30)
    ]
    text = render(a_report(["a"], results={"a": {"val": metrics}}, log=log, examples=[]))
    assert "0 of 1 task clearly above chance" in Page(text).text
    assert not re.search(r'[">]\s*-?(nan|inf)\b', text)


def test_above_chance_needs_the_whole_interval_and_the_metric_s_own_chance() -> None:
    page = Page(render(a_report(["a"], examples=[], log=[], results={"a": {"val": _against(low=0.11, chance_f1=0.2)}})))
    assert "✓ clearly above chance" in page.words
    assert page.words.count("✓") == 2  # in the legend and at the main metric, not at f1
    page = Page(render(a_report(["a"], examples=[], log=[], results={"a": {"val": _against(low=0.1, chance_f1=0.2)}})))
    assert "not clearly above chance" in page.words


def _against(*, low: float, chance_f1: float) -> dict[str, float]:
    f1 = {"f1": 0.2, "f1_low": 0.15, "f1_high": 0.3, "chance_f1": chance_f1}
    return {"accuracy@1": 0.2, "accuracy@1_low": low, "accuracy@1_high": 0.3, "chance": 0.1, **f1, "n": 50}


def test_the_held_out_split_is_the_headline() -> None:
    results = some_results(["a", "b"])
    del results["a"]["test"], results["b"]["test"], results["b"]["val"]
    text = Page(render(a_report(["a", "b"], results=results))).text
    assert "1 of 1 task clearly above chance on held-out data; 1 task measured on training data only" in text


def test_a_large_run_is_a_small_file() -> None:
    tasks = [f"task {index}" for index in range(20)]
    noise = np.random.default_rng(0).integers(0, 255, (4, 200, 200, 3)).astype(np.uint8)
    examples = [dataclasses.replace(one, frames=tuple(noise)) for task in tasks for one in some_examples(task)]
    text = render(a_report(tasks, lines=5000, examples=examples))
    assert len(text.encode()) < 5_000_000
    paths = [value for name, value in Page(text).attributes if name == "d"]
    assert max(len(re.findall("[ML]", path)) for path in paths) <= 400


def test_what_went_wrong_is_listed() -> None:
    log = [
        {"event": "broken", "step": index, "task": "a", "sample": f"{index}.jpg", "reason": "cut"}
        for index in range(80)
    ]
    log += [{"event": "skipped", "step": 9, "reason": "loss", "samples": {"a": ["1", "2"]}}]
    page = Page(render(a_report(log=log)))
    assert "49.jpg" in page.words
    assert "50.jpg" not in page.words
    assert {"and 30 more in log.jsonl", "loss is not finite", "a: 1, 2"} <= set(page.words)


def test_equal_runs_give_equal_pages() -> None:
    assert render(a_report()) == render(a_report())
