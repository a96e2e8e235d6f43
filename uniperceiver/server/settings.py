"""What a server is told: the model, the address, and how much it takes of whom."""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from uniperceiver.errors import UserError, nearest

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a server takes, and how long it waits."""

    # Of a connection and its requests:
    connections: int = 256
    head_seconds: float = 5.0  # until all header lines of a request are there; also how long an idle connection stays
    body_seconds: float = 15.0  # until all of a body is there
    request_seconds: float = 30.0  # until there is an answer
    body_bytes: int = 32 * MIB
    held_bytes: int = 256 * MIB  # of all bodies that are being read or wait for an answer
    # Of all requests together:
    queue: int = 64  # parts of requests that wait for an engine
    batch: int = 32  # items that an engine takes at once
    # Of what is asked:
    items: int = 32  # pictures, clips, sounds and texts of a request
    megapixels: float = 40.0  # of a picture, or of a frame
    request_megapixels: float = 120.0  # of all pictures of a request
    clip_frames: int = 10_000
    clip_seconds: float = 120.0
    sound_seconds: float = 600.0
    labels: int = 1_000  # or texts to compare with
    label_bytes: int = 64 * 1024  # of all of them
    text_bytes: int = 64 * 1024  # of a text that is asked about
    beam: int = 8
    words: int = 64  # of a caption
    # Of the engines:
    load_seconds: float = 300.0  # until a model is loaded
    overdue_seconds: float = 5.0  # that an engine may take beyond `request_seconds` before it is ended
    restarts: int = 3  # of engines in `restart_seconds`; with more the server gives up
    restart_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf or (value == 0 and name != "restarts"):
                raise UserError(f"--limit {name}={value}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Which model an engine loads, and how."""

    path: str
    name: str  # what clients call it
    step: str | None = None
    trust: bool = False
    routed: bool = False  # experts are kept where they could be folded into plain weights
    device: str = "cpu"
    threads: int | None = None  # of an engine; None: the cores, shared by all engines
    backend: str = "torch"  # a name in BACKENDS of engine/worker.py


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything a server is told."""

    model: ModelSource
    host: str = "127.0.0.1"
    port: int = 8000  # 0: one that is free
    engines: int = 1
    token: str | None = None  # what clients say in Authorization: Bearer
    hosts: tuple[str, ...] = ()  # names that the server is called by, beside its own
    origins: tuple[str, ...] = ()  # web pages of other servers that may ask
    is_open: bool = False  # anybody who reaches the address may ask
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"--port: a port lies between 0 and 65535, found {self.port}")
        if self.engines < 1:
            raise UserError(f"--engines: must be 1 or more, found {self.engines}")
        if self.model.threads is not None and self.model.threads < 1:
            raise UserError(f"--threads: must be 1 or more, found {self.model.threads}")
        for origin in self.origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest:
                raise UserError(f"--allow-origin {origin}: give scheme and host, such as https://example.org")
        if not self.is_local and self.token is None and not self.is_open:
            raise UserError(
                f"--host {self.host}: others could reach it; give --token-file FILE, or --open to let anybody ask"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises:
        UserError: the file cannot be read, or holds no text of at least 16 visible characters.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"--token-file {path}: cannot be read ({error}); give a file with one line of text") from None
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise UserError(
            f"--token-file {path}: holds no token; write one line of at least 16 letters and digits, such as "
            "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes"
        )
    return text


def read_limits(words: Sequence[str]) -> Limits:
    """Limits from words such as `queue=128`.

    Raises:
        UserError: there is no such limit, or the value is no such number.
    """
    defaults = asdict(Limits())
    values: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in defaults:
            raise UserError(f"--limit: unknown limit {name!r}; {nearest(name, defaults)}")
        kind = type(defaults[name])
        try:
            values[name] = kind(text)
        except ValueError:
            raise UserError(f"--limit {word}: {text!r} is no {'whole ' if kind is int else ''}number") from None
    return Limits(**values)  # type: ignore[arg-type]
