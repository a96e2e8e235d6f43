"""Pages: templates filled in to one HTML file that needs nothing else, in which a text is never taken for a tag."""

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uniperceiver.report.parts import numbers
from uniperceiver.report.parts.colours import DARK, LIGHT, variables

if TYPE_CHECKING:
    from jinja2 import Environment

# Neither HTML nor UTF-8 has room for these; file names and captions may contain them all the same. The last
# range turns the direction of the text around them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Replace what no page has room for by the sign for an unknown letter."""
    return _UNPRINTABLE.sub("\ufffd", text)


def render_page(template: str, values: Mapping[str, Any], *, package: str = "uniperceiver.report") -> str:
    """Fill in a template, to be written as UTF-8.

    Args:
        template: a file in the folder templates of `package`; it may extend and import those of the report.
        values: of the template's variables. Texts are escaped, whatever they contain; only Markup is not.
    """
    themes = {"light": dict(variables(LIGHT)), "dark": dict(variables(DARK)), "tones": range(len(LIGHT.tones))}
    return _environment(package).get_template(template).render(**themes, **values)


@functools.cache
def _environment(package: str) -> "Environment":
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    packages = dict.fromkeys((package, "uniperceiver.report"))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "written": numbers.written,
        "count": numbers.count,
        "percent": numbers.percent,
        "shortened": numbers.shortened,
        "signed": numbers.signed,
    }
    return environment
