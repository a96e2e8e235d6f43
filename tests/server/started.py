"""A server as users start it, on a free port, with all that it says."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

TOKEN = "0123456789abcdefXYZ"
SECONDS = 90  # until a server is ready, on a busy machine


@dataclass(kw_only=True)
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    run: Path
    lines: list[str] = field(default_factory=list)
    url: str = ""

    def wait_for(self, is_said: Callable[[str], bool], seconds: float = SECONDS) -> str:
        """The first line that is so.

        Raises:
            AssertionError: it has not come in time, or the server has ended.
        """
        end = time.monotonic() + seconds
        while True:
            for line in list(self.lines):
                if is_said(line):
                    return line
            assert time.monotonic() < end, self.lines
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)

    def client(self, **more: object) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **more)  # type: ignore[arg-type]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)


@contextmanager
def started(run: Path, *words: str) -> Iterator[Served]:
    """A server of a run with these options; it is ended behind the block, if it has not ended by itself."""
    command = [sys.executable, "-m", "uniperceiver", "serve", str(run), "--port", "0", "--threads", "1", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    served = Served(process=process, run=run)
    reader = threading.Thread(target=_read, args=(served,), daemon=True)
    reader.start()
    try:
        line = served.wait_for(lambda line: "serving at" in line)
        served.url = line.rpartition(" ")[2]
        yield served
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def _read(served: Served) -> None:
    assert served.process.stderr is not None
    for line in served.process.stderr:
        served.lines.append(line.rstrip("\n"))
