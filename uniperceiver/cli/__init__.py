"""The command line: one function per command."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from uniperceiver.cli.parser import parse
from uniperceiver.errors import UserError

# Threads that spin while they wait cost more than they save where several processes share the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code 0: done; 2: something the user can mend; 75: stopped by a signal after saving."""
    options = parse(arguments)
    command: Callable[[Namespace], int | None] = options.command
    try:
        return command(options) or 0
    except UserError as error:
        print(f"uniperceiver: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("uniperceiver: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
