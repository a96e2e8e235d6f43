"""What did not go smoothly: warnings, broken samples, skipped steps, notes; and the recipe."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from uniperceiver.report.contents import RunReport
from uniperceiver.report.markup import Html, element, join, shortened
from uniperceiver.report.numbers import count, finite

_MOST_ROWS = 50
_LONGEST = 300
_KEY = re.compile(r"^(\s*(?:- )?)([^\s:#'\"{\[][^:#]*)(:)(?=\s|$)(.*)$")


def remarks_section(report: RunReport) -> Html | None:
    """Warnings, broken samples, skipped steps and notes of the log; None where there were none."""
    lines = {
        event: [each for each in report.log if each.get("event") == event]
        for event in ("warning", "broken", "skipped", "note")
    }
    parts = join(
        _rows("Warnings", ("step", "warning"), [(_step(each), str(each.get("text", ""))) for each in lines["warning"]]),
        _rows("Samples left out", ("step", "task", "sample", "reason"), [_broken(each) for each in lines["broken"]]),
        _rows("Steps skipped", ("step", "reason", "samples"), [_skipped(each) for each in lines["skipped"]]),
        _rows("Notes", ("step", "note"), [(_step(each), str(each.get("text", ""))) for each in lines["note"]]),
    )
    return element("section", element("h2", "Remarks"), parts, id="remarks") if parts.text else None


def recipe_section(report: RunReport) -> Html | None:
    """The recipe, folded."""
    if not report.recipe.strip():
        return None
    code = element("pre", *(_recipe_line(line) for line in report.recipe.rstrip().splitlines()))
    folded = element("details", element("summary", "Everything that was set"), code)
    return element("section", element("h2", "Recipe"), folded, id="recipe")


def _rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html | None:
    if not rows:
        return None
    more = len(rows) - _MOST_ROWS
    head = element("thead", element("tr", *(element("th", name) for name in columns)))
    body = (element("tr", *(element("td", shortened(each, _LONGEST)) for each in row)) for row in rows[:_MOST_ROWS])
    return join(
        element("h3", element("span", title), element("small", count(len(rows)))),
        element("div", element("table", head, element("tbody", *body), class_="list"), class_="scrolled"),
        element("p", f"and {count(more)} more in log.jsonl", class_="explained") if more > 0 else None,
    )


def _broken(line: Mapping[str, Any]) -> tuple[str, ...]:
    return (_step(line), *(str(line.get(key, "")) for key in ("task", "sample", "reason")))


def _skipped(line: Mapping[str, Any]) -> tuple[str, ...]:
    samples = line.get("samples")
    if isinstance(samples, Mapping):
        samples = "; ".join(f"{task}: {', '.join(map(str, names))}" for task, names in samples.items())
    return (_step(line), f"{line.get('reason', '')} is not finite", str(samples or ""))


def _step(line: Mapping[str, Any]) -> str:
    return count(finite(line.get("step")))


def _recipe_line(line: str) -> Html:
    found = _KEY.match(line)
    if found is None:
        return join(element("span", line, class_="comment") if line.lstrip().startswith("#") else line, "\n")
    indent, key, colon, value = found.groups()
    return join(indent, element("span", key, class_="yamlkey"), colon, value, "\n")
