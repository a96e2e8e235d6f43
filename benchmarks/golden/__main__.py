"""Convert every recorded model in a folder and compare every case: python -m benchmarks.golden DIR --json FILE."""

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks.golden.cases import case_names, convert_folder, load_case, model_folders
from benchmarks.golden.compare import TOLERANCES, Errors, errors_of
from benchmarks.golden.steps import NAME, errors_of_steps


def results(root: Path) -> dict[str, Errors]:
    """The largest errors of each case by FOLDER/CASE."""
    found: dict[str, Errors] = {}
    folders = model_folders(root)
    for folder in folders:
        for name in case_names(folder):
            found[f"{folder.name}/{name}"] = errors_of(load_case(folder, name), convert_folder(folder).model)
    if folders and (root / NAME / f"{NAME}.json").is_file():
        beside = json.loads((folders[0] / "model.json").read_text())
        found[f"{NAME}/{NAME}"] = errors_of_steps(root / NAME, beside)
    return found


def beyond(errors: Errors) -> list[str]:
    """Quantities of a case that are beyond their tolerance, or that were not compared at all."""
    return [name for name, value in errors.items() if not value <= TOLERANCES[name]] or (
        [] if errors else ["nothing compared"]
    )


def main() -> int:
    """Print the largest errors per case, and how many cases are beyond tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folders with model.json and recorded cases")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.manual_seed(0)
    found = results(options.folder)
    for name, errors in found.items():
        wrong = beyond(errors)
        if name.startswith(f"{NAME}/") and "parameters" not in errors:
            name += " (recorded weights are all final ones: steps not repeated)"
        shown = ", ".join(f"{quantity} {value:.1e}" for quantity, value in errors.items())
        print(f"{name:70s} {shown}{'   BEYOND: ' + ', '.join(wrong) if wrong else ''}")
    count = sum(bool(beyond(errors)) for errors in found.values())
    if options.json:
        rows = {name: {"errors": errors, "beyond": beyond(errors)} for name, errors in found.items()}
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} cases, {count} beyond tolerance")
    return 1 if count or not found else 0


if __name__ == "__main__":
    sys.exit(main())
