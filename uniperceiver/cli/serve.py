"""The command that serves a model over HTTP."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from uniperceiver.cli.options import arg
from uniperceiver.cli.runs import StepOfRun, Trust
from uniperceiver.errors import UserError, warn
from uniperceiver.serving.locate import is_export, refuse_of_export

_PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def serve(
    run: Annotated[str, arg("a run, a saved model, an export or OWNER/NAME on the hub", metavar="RUN")],
    *,
    host: Annotated[str, arg("address to listen at (default: %(default)s: this machine alone)")] = "127.0.0.1",
    port: Annotated[int, arg("port, 0 for a free one (default: %(default)s)")] = 8000,
    token_file: Annotated[Path | None, arg("clients must send the text in this file", metavar="FILE")] = None,
    open: Annotated[bool, arg("anybody who reaches the address may ask")] = False,
    allow_host: Annotated[
        list[str] | None, arg("names that the server is called by; * for any", metavar="HOST")
    ] = None,
    allow_origin: Annotated[list[str] | None, arg("other servers whose web pages may ask", metavar="ORIGIN")] = None,
    name: Annotated[str | None, arg("what clients call the model (default: the folder's name)")] = None,
    engines: Annotated[int, arg("processes with the model (default: %(default)s)", metavar="N")] = 1,
    threads: Annotated[int | None, arg("of an engine (default: its share of the cores)", metavar="N")] = None,
    device: Annotated[str, arg("cpu, cuda, ... (default: %(default)s)")] = "cpu",
    backend: Annotated[
        Literal["torch", "onnx"] | None, arg("what computes (default: onnx for an export, torch for a model)")
    ] = None,
    limit: Annotated[
        list[str] | None, arg("other limits than those of docs/serving.md, such as queue=128", metavar="NAME=VALUE")
    ] = None,
    quiet: Annotated[bool, arg("no line for each request")] = False,
    routed: Annotated[bool, arg("keep experts that could be folded into plain weights: the page shows them")] = False,
    step: StepOfRun = None,
    trust: Trust = False,
) -> int | None:
    """Serve a model over HTTP, with a page for people."""
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise UserError(f'serve needs {", ".join(missing)}; pip install "uniperceiver[serve]"')
    from uniperceiver.server.run import serve as run_server
    from uniperceiver.server.settings import ModelSource, ServerSettings, read_limits, read_token

    source = ModelSource(
        path=run,
        name=name or Path(run).resolve().name,
        step=step,
        trust=trust,
        routed=routed,
        device=device,
        threads=threads,
        backend=_backend(run, backend, has_code=step is not None or trust),
    )
    settings = ServerSettings(
        model=source,
        host=host,
        port=port,
        engines=engines,
        token=None if token_file is None else read_token(token_file),
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        is_open=open,
        limits=read_limits(limit or ()),
    )
    if token_file is not None and token_file.stat().st_mode & 0o044:
        warn(f"--token-file {token_file}: others on this machine can read it; chmod 600 {token_file}")
    return run_server(settings, _line, (lambda line: None) if quiet else _line)


def _backend(run: str, asked: str | None, *, has_code: bool) -> str:
    """What computes: onnxruntime for an export, torch for a model."""
    exported = is_export(run)
    if asked is not None and exported != (asked == "onnx"):
        what, mend = ("an export", "leave --backend out") if exported else ("a model", "uniperceiver export it first")
        raise UserError(f"--backend {asked}: {run} is {what}; {mend}")
    if exported:
        refuse_of_export(run, has_code=has_code)
    return "onnx" if exported else "torch"


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
