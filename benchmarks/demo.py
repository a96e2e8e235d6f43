"""Whether the demo's model is good: its figures on held-out scenes against goals, and ten questions on fixed scenes.

python -m benchmarks.demo [RUN ...] [--seeds N] [--out DIR] [--json FILE]

Of runs of `uniperceiver demo` that are there, or of some that are trained for it, with all threads as the command does.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uniperceiver
from benchmarks.markdown import markdown_table
from uniperceiver.cli.runs import demo
from uniperceiver.runs.demo_examples import DemoAnswer, ask, write_examples

# Task and metric of the validation split -> the least that is good.
GOALS: dict[tuple[str, str], float] = {
    ("shapes", "accuracy@1"): 0.85,
    ("motions", "accuracy@1"): 0.85,
    ("relations", "accuracy@1"): 0.95,
    ("words", "masked_accuracy"): 0.8,
    ("captions", "cider_d"): 2.5,
    ("retrieval", "i2t_recall@1"): 0.6,
}
RIGHT = 9  # of ten answers


@dataclass(frozen=True, kw_only=True)
class DemoFigures:
    """What a run of the demo came to."""

    name: str
    values: Mapping[str, float]  # task/metric -> figure of the validation split
    answers: Sequence[DemoAnswer]
    cpu_seconds: float | None  # of the command, all processes; None: the run was there
    seconds: float | None

    @property
    def right(self) -> int:
        """Right answers."""
        return sum(asked.right for asked in self.answers)

    @property
    def good(self) -> bool:
        """Whether all goals are reached."""
        return self.right >= RIGHT and all(self.values[_name(goal)] >= least for goal, least in GOALS.items())


def figures_of(run: Path, cpu_seconds: float | None = None, seconds: float | None = None) -> DemoFigures:
    """Read a run's results, and ask its model ten questions.

    Raises:
        UserError: it is no run of the demo that has ended.
    """
    recipe, model = uniperceiver.read_recipe(run / "recipe.yaml"), uniperceiver.load(run)
    tasks = json.loads((run / "results.json").read_text(encoding="utf-8"))["tasks"]
    return DemoFigures(
        name=run.name,
        values={_name(goal): tasks[goal[0]]["val"][goal[1]] for goal in GOALS},
        answers=list(ask(model, recipe, write_examples(run))),
        cpu_seconds=cpu_seconds,
        seconds=seconds,
    )


def trained(run: Path, seed: int, overrides: Sequence[str] = ()) -> DemoFigures:
    """Run `uniperceiver demo` in a folder, and look at what it leaves."""
    cpu, start = _cpu_seconds(), time.perf_counter()
    if demo([f"seed={seed}", *overrides], out=run):
        raise RuntimeError(f"the demo was stopped; go on with it: uniperceiver demo --out {run} seed={seed}")
    return figures_of(run, _cpu_seconds() - cpu, time.perf_counter() - start)


def table(demos: Sequence[DemoFigures]) -> str:
    """A line per figure, with its goal; then the questions, and the time that was measured."""
    lines = [[_name(goal), f"{least:g}"] for goal, least in GOALS.items()]
    lines = [[name, goal, *(f"{made.values[name]:.3f}" for made in demos)] for name, goal in lines]
    lines.append(["right answers of ten", str(RIGHT), *(str(made.right) for made in demos)])
    if all(made.cpu_seconds is not None for made in demos):
        lines.append(["CPU minutes", "", *(f"{(made.cpu_seconds or 0) / 60:.1f}" for made in demos)])
        lines.append(["minutes", "", *(f"{(made.seconds or 0) / 60:.1f}" for made in demos)])
    return markdown_table(["figure", "goal", *(made.name for made in demos)], lines)


def _name(goal: tuple[str, str]) -> str:
    return "/".join(goal)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> int:
    """Print the table and every wrong answer; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/demos"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    demos = [figures_of(run) for run in options.runs]
    if not demos:
        demos = [trained(options.out / f"seed-{seed}", seed) for seed in range(options.seeds)]
    print(table(demos))
    for made in demos:
        for asked in made.answers:
            if not asked.right:
                print(f"{made.name}: wrong: {asked.about}: {asked.question} {asked.answer}")
    if options.json:
        options.json.write_text(json.dumps([asdict(made) for made in demos], indent=1) + "\n", encoding="utf-8")
    return 0 if all(made.good for made in demos) else 1


if __name__ == "__main__":
    sys.exit(main())
