"""COMMAND -> PROCESSES: starts several of this program on this machine, and on others, with torch's elastic launcher.

Its own command, torchrun, does as well, but always exits with 1; here the code of the processes passes through.
"""

import dataclasses
import logging
import os
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any
from uuid import uuid4

from uniperceiver.cli.options import arg
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import EXIT_CODE as LOST
from uniperceiver.parallel.environment import was_launched

Processes = Annotated[int, arg("processes on this machine, each with a GPU of its own (default: %(default)s)")]
Nodes = Annotated[int, arg("machines, on each of which the same command is given (default: %(default)s)")]
Rendezvous = Annotated[str | None, arg("where the machines find each other, on one of them", metavar="HOST:PORT")]
Restarts = Annotated[int, arg("times that all begin anew when a process is lost (default: %(default)s)")]

_STOPPED, _REFUSED = 75, 2  # exit codes of a process
_PATIENCE = 600  # seconds that processes may take to save before they are killed


def launched(arguments: Sequence[str] | None, options: Mapping[str, Any]) -> int | None:
    """Start the processes that a command line asks for, and give their exit code; None: it asks for none.

    Args:
        arguments: the words of the command line; None: those of this process.
        options: what was read from them.

    Raises:
        UserError: they ask for what cannot be.
    """
    processes, nodes = options.get("processes", 1), options.get("nodes", 1)
    rendezvous, restarts = options.get("rendezvous"), options.get("restarts", 0)
    for name, value, least in (("--processes", processes, 1), ("--nodes", nodes, 1), ("--restarts", restarts, 0)):
        if value < least:
            raise UserError(f"{name}: {value} is too few; give {least} or more")
    if was_launched() or processes * nodes == 1:
        return None
    if sys.platform == "win32":
        raise UserError("--processes: several processes need Linux or macOS; leave it out")
    if nodes > 1 and rendezvous is None:
        raise UserError("--nodes: needs --rendezvous HOST:PORT, a port of one of the machines, the same on all of them")
    words = list(sys.argv[1:] if arguments is None else arguments)
    for attempt in range(1 + restarts):
        # Between machines the launcher begins anew by itself; on one, only what may get better is done again.
        code = _run(words, processes, nodes, rendezvous, restarts if nodes > 1 else 0)
        if code != LOST or nodes > 1 or attempt == restarts:
            return code
        print(f"uniperceiver: begins anew from the newest checkpoint ({attempt + 1} of {restarts})", file=sys.stderr)
        time.sleep(1)
    return LOST


def _run(words: Sequence[str], processes: int, nodes: int, rendezvous: str | None, restarts: int) -> int:
    """The exit code of all processes together."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes say what there is to say
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    names = {field.name for field in dataclasses.fields(LaunchConfig)}
    patience: dict[str, Any] = {"shutdown_timeout": _PATIENCE} if "shutdown_timeout" in names else {}  # torch >= 2.12
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=processes,
            run_id=f"uniperceiver-{uuid4()}" if rendezvous is None else "uniperceiver",
            rdzv_backend="c10d",
            rdzv_endpoint=rendezvous or "localhost:0",
            max_restarts=restarts,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            **patience,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "uniperceiver", *words)
        except ChildFailedError as error:
            return exit_code([failure.exitcode for failure in error.failures.values()])
        except SignalException:
            return _STOPPED
    return 0


def exit_code(codes: Collection[int]) -> int:
    """The exit code of all from those that have failed, negative where a signal has killed them."""
    for code in (_STOPPED, _REFUSED):
        if code in codes:
            return code
    return LOST if LOST in codes or any(code < 0 for code in codes) else 1
