"""python -m soak [PART ...] [--out FOLDER]: all long trials, or some; done ones are not done again.

FOLDER/soak.jsonl gets a line per case at once, FOLDER/soak.json and FOLDER/table.md their sum at the end.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path

from soak.parts import PARTS, Record
from soak.runs import quieten, warm_up


def main() -> int:
    """Run the trials; exit code 1 where a case is not good."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "soak.jsonl"
    quieten()
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        warm_up(Path(scratch) / "warm")
        for part in options.parts or PARTS:
            _run(part, Path(scratch), log)
    records = _read(log)
    (options.out / "soak.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    text = table(records)
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if all(record["good"] for record in records) else 1


def table(records: Iterable[Record]) -> str:
    """A Markdown row per part: cases, good ones, figures, time."""
    records = list(records)
    lines = ["| trial | cases | good | figures | minutes |", "|---" * 5 + "|"]
    for name, part in PARTS.items():
        of_part = [record for record in records if record["part"] == name]
        if of_part:
            counted = [record for record in of_part if "beyond" not in record]
            good, minutes = (
                sum(record["good"] for record in counted),
                sum(record["seconds_taken"] for record in of_part) / 60,
            )
            cells = (part.title, str(len(counted)), str(good), part.sums_up(of_part), f"{minutes:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _run(part: str, scratch: Path, log: Path) -> None:
    done = {record["case"] for record in _read(log) if record["part"] == part}
    for name, run in PARTS[part].cases(scratch / part):
        if name in done:
            continue
        start = time.monotonic()
        with redirect_stderr(io.StringIO()):  # what the runs say
            outcome = run()
        record = {"part": part, "case": name, **outcome, "seconds_taken": round(time.monotonic() - start, 2)}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{part}: {name}: {'good' if record['good'] else record}", file=sys.stderr)


def _read(log: Path) -> list[Record]:
    if not log.is_file():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
