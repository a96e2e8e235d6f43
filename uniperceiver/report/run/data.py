"""The section of data: how many samples each split has, how many texts are cut, and what could not be used."""

from collections import Counter
from dataclasses import dataclass

from uniperceiver.data.lengths import SplitFacts
from uniperceiver.report.parts.numbers import count
from uniperceiver.report.run.records import RunReport


@dataclass(frozen=True, kw_only=True)
class DataRow:
    """Holds what is said of a split."""

    facts: SplitFacts
    cut: str  # how many texts are cut; "": it has none
    broken: int  # samples that were met and left out


def data_rows(report: RunReport) -> list[DataRow]:
    """Gather the facts of all splits, with the broken samples that the log names."""
    broken: Counter[tuple[str, str]] = Counter()
    for line in report.log:
        if line.get("event") == "broken":
            name = str(line.get("task", ""))
            task, slash, split = name.rpartition("/")
            broken[(task, split) if slash else (name, "train")] += 1  # training names the task alone
    return [
        DataRow(
            facts=facts,
            cut=f"{count(facts.cut)} of {count(facts.texts)}" if facts.texts else "",
            broken=broken[facts.task, facts.split],
        )
        for facts in report.data
    ]
