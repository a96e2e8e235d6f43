"""What commands print for machines."""

from typing import Any


def print_json(values: Any) -> None:
    """Values as JSON on the standard output."""
    from uniperceiver.strict import to_json

    print(to_json(values, indent=1))
