"""The page for people: a handful of files, read once and found by their whole path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ADDRESSES = {"index.html": "/", "api.html": "/api"}


def page_files() -> dict[str, Path]:
    """The files of the page by their path on the server."""
    files = (path for path in sorted(_FOLDER.rglob("*")) if path.suffix in _TYPES)
    names = ((path.relative_to(_FOLDER).as_posix(), path) for path in files)
    return {_ADDRESSES.get(name, f"/page/{name}"): path for name, path in names}


def page_routes() -> APIRouter:
    """Routes of the page."""
    routes = APIRouter(include_in_schema=False)
    for address, path in page_files().items():
        data, media = path.read_bytes(), _TYPES[path.suffix]
        routes.add_api_route(address, _sent(data, media), methods=["GET", "HEAD"])
    return routes


def _sent(data: bytes, media: str) -> Callable[[], Any]:
    async def send() -> Response:
        return Response(data, media_type=media, headers={"Cache-Control": "no-cache"})

    return send
