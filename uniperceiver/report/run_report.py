"""report.html of a run: one file that needs nothing else, to be looked at rather than read."""

from uniperceiver.report.contents import RunReport
from uniperceiver.report.curves import curves_section
from uniperceiver.report.experts import experts_section
from uniperceiver.report.gallery import gallery_section
from uniperceiver.report.interference import interference_section
from uniperceiver.report.page import page
from uniperceiver.report.remarks import recipe_section, remarks_section
from uniperceiver.report.summary import cards_section, header
from uniperceiver.report.table import table_section

__all__ = ["RunReport", "render"]


def render(report: RunReport) -> str:
    """The page as HTML, to be written as UTF-8."""
    sections = {
        "Tasks": cards_section(report),
        "Examples": gallery_section(report),
        "Experts": experts_section(report),
        "Interference": interference_section(report),
        "Curves": curves_section(report),
        "Figures": table_section(report),
        "Remarks": remarks_section(report),
        "Recipe": recipe_section(report),
    }
    return page(report.title, header(report), sections)
