"""report.html of a run: its facts, figures and some questions with the model's answers."""

from pathlib import Path

from uniperceiver.commands.figures import Results
from uniperceiver.commands.recipe import saved_recipe


def write_report(folder: Path, results: Results) -> Path:
    """Write the report of a run; returns its path."""
    return folder / "report.html"
