"""The command that trains and compares many runs."""

import argparse
import sys
from pathlib import Path

from uniperceiver.cli.output import print_json


def add_study(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("study", metavar="STUDY.yaml")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the study; goes on if it exists")
    parser.add_argument("--report-only", action="store_true", help="renew the tables, train nothing")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")


def study(options: argparse.Namespace) -> int | None:
    """Train the runs of a study that are not done, and compare all. Exit code 1: some have failed."""
    from uniperceiver.studies import study as studies
    from uniperceiver.training.stop import EXIT_CODE

    path, out = Path(options.study), Path(options.out)
    studied = studies.report_study(path, out) if options.report_only else studies.run_study(path, out)
    if studied.stopped:
        print(f"stopped; the same command goes on from there ({out})", file=sys.stderr)
        return EXIT_CODE
    if options.json:
        print_json({"report_file": str(studied.path), **studies.as_json(studied.report)})
    else:
        studies.print_study(studied)
        print(f"tables: {out / 'study.json'}\nreport: {studied.path}")
    if studied.failed:
        cells = sum(len(arm.done) + len(arm.failed) for arm in studied.report.arms)
        failed = f"{studied.failed} of {cells} runs failed"
        print(
            f"uniperceiver: {failed}; the same command tries them again ({studied.path} has their last lines)",
            file=sys.stderr,
        )
        return 1
    return None
