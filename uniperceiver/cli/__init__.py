"""The command line: one function per command."""

import errno
import os
import sys
from collections.abc import Sequence

from uniperceiver.cli.launch import launched
from uniperceiver.cli.parser import parse
from uniperceiver.errors import UserError, shortened
from uniperceiver.parallel.environment import ALONE, ProcessLost, speaks
from uniperceiver.parallel.environment import EXIT_CODE as LOST

# Threads that spin while they wait cost more than they save where several processes share the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

_MOST_OF_PATH = 200  # characters in a message
# What a disk or the rights on it may refuse at any moment.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Exit code 0: done; 2: something the user can mend; 75: stopped by a signal after saving; 76: one of several
    processes is lost, and the same command goes on.
    """
    command = parse(arguments)
    try:
        code = launched(arguments, command.keywords)
        return (command() or 0) if code is None else code
    except UserError as error:
        if speaks() or ALONE in getattr(error, "__notes__", ()):
            print(f"uniperceiver: {error}", file=sys.stderr)
        return 2
    except ProcessLost as error:
        if error.speaks:
            print(f"uniperceiver: {error}", file=sys.stderr)
        return LOST
    except KeyboardInterrupt:
        print("uniperceiver: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in {*_DISK, errno.ENAMETOOLONG}:
            raise
        where = f"{shortened(str(error.filename), _MOST_OF_PATH)}: " if error.filename else ""
        mend = "free or repair the disk, or mend its permissions, and give the same command again"
        if error.errno == errno.ENAMETOOLONG:
            mend = "give a shorter one; is it a text, where the path of a file or folder belongs?"
        print(f"uniperceiver: {where}{error.strerror}; {mend}", file=sys.stderr)
        return 2
