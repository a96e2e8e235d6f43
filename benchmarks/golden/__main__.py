"""Convert every recorded model in a folder and compare every case: python -m benchmarks.golden DIR --json FILE."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from benchmarks.golden.cases import case_names, convert_folder, load_case, model_folders
from benchmarks.golden.compare import findings_of
from benchmarks.golden.findings import Findings, failed
from benchmarks.golden.steps import NAME, findings_of_steps
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist

# All that a file can lead to which is damaged, or of a kind that is not known here: the case counts as beyond.
_TROUBLE = (
    *(UserError, SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError),
    AssertionError,
)


def results(root: Path) -> Iterator[tuple[str, Findings]]:
    """What was found in each case, with its name FOLDER/CASE."""
    folders = model_folders(root)
    for folder in folders:
        yield from _folder(folder)
    recording = root if root.name == NAME else root / NAME
    if recording.is_dir():
        yield f"{NAME}/{NAME}", _tried(lambda: findings_of_steps(recording, [_describe(folder) for folder in folders]))


def _folder(folder: Path) -> Iterator[tuple[str, Findings]]:
    try:
        model = convert_folder(folder).model
    except _TROUBLE as error:
        for name in case_names(folder) or ["state_dict"]:
            yield f"{folder.name}/{name}", failed(error)
        return
    for name in case_names(folder):
        yield f"{folder.name}/{name}", _tried(partial(_compared, folder, name, model))


def _compared(folder: Path, name: str, model: Generalist) -> Findings:
    return findings_of(load_case(folder, name), model)


def _describe(folder: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return description


def _tried(compare: Callable[[], Findings]) -> Findings:
    """What a comparison finds, or why there is none."""
    try:
        return compare()
    except _TROUBLE as error:
        return failed(error)


def left_out(root: Path) -> list[str]:
    """Folders that hold something else than a model and its cases."""
    names = {folder.name for folder in model_folders(root)} | {NAME}
    return sorted(path.name for path in root.glob("*") if path.is_dir() and path.name not in names)


def line_of(name: str, findings: Findings) -> str:
    """One case on one line."""
    shown = ", ".join(f"{quantity} {value:.1e}" for quantity, value in findings.errors.items())
    remarks = "".join(f" ({remark})" for remark in findings.remarks)
    return f"{name:60s} {shown}{remarks}{'   BEYOND: ' + '; '.join(findings.beyond[:5]) if findings.beyond else ''}"


def main() -> int:
    """Print the largest errors per case, and how many cases are beyond tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folders with model.json and recorded cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write errors, reasons and remarks of every case")
    options = parser.parse_args()
    torch.manual_seed(0)
    by_name: dict[str, Findings] = {}
    for name, findings in results(options.folder):
        by_name[name] = findings
        print(line_of(name, findings), flush=True)
    for name in left_out(options.folder):
        print(f"{name}: has no model.json, so it holds no cases; left out")
    if options.json:
        rows = {
            name: {"errors": findings.errors, "beyond": findings.beyond, "remarks": findings.remarks}
            for name, findings in by_name.items()
        }
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    count = sum(bool(findings.beyond) for findings in by_name.values())
    print(f"{len(by_name)} cases, {count} beyond tolerance")
    return 1 if count or not by_name else 0


if __name__ == "__main__":
    sys.exit(main())
