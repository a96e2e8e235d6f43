"""report.html of a run: one file that needs nothing else, to be looked at rather than read."""

from uniperceiver.report.parts.page import render_page
from uniperceiver.report.run.classes import class_groups, found_groups
from uniperceiver.report.run.curves import curve_groups
from uniperceiver.report.run.data import data_rows
from uniperceiver.report.run.examples import example_groups
from uniperceiver.report.run.experts import experts_section
from uniperceiver.report.run.interference import interference_section
from uniperceiver.report.run.notes import note_tables, recipe_lines
from uniperceiver.report.run.records import RunReport
from uniperceiver.report.run.tasks import metrics_table, task_cards, verdict
from uniperceiver.report.run.turns import turn_rows


def render_run(report: RunReport) -> str:
    """Fill in the page of a run, to be written as UTF-8."""
    splits, metrics = metrics_table(report)
    sections = {
        "Tasks": task_cards(report),
        "Examples": example_groups(report),
        "Classes": class_groups(report),
        "Things": found_groups(report),
        "Experts": experts_section(report.experts),
        "Interference": interference_section(report),
        "Turns": turn_rows(report),
        "Curves": curve_groups(report),
        "Figures": metrics,
        "Data": data_rows(report),
        "Notes": note_tables(report),
        "Recipe": recipe_lines(report.recipe),
    }
    values = {
        "title": report.title,
        "kicker": "training report",
        "verdict": verdict(report),
        "facts": report.facts,
        "links": [name for name, section in sections.items() if section],
        "splits": splits,
        **{name.lower(): section for name, section in sections.items()},
    }
    return render_page("run.html.j2", values)
