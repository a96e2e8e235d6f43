"""The ASGI application: all routes behind the guard."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from uniperceiver.server.http.guard import Guard
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.routes.described import describe
from uniperceiver.server.routes.inference_protocol import InferQuestion, protocol_routes
from uniperceiver.server.routes.openai import EmbeddingsQuestion, openai_routes
from uniperceiver.server.routes.own import own_routes
from uniperceiver.server.routes.pages import page_files, page_routes
from uniperceiver.server.routes.state import state_routes
from uniperceiver.server.service import Service
from uniperceiver.version import VERSION

_FREE = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})


def make_app(service: Service, note: Callable[[str], None]) -> Guard:
    """Everything that answers over HTTP.

    Args:
        note: takes a line of JSON for each request.
    """
    # FastAPI's own pages load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False)
    describe(app, f"uniperceiver: {service.name}", VERSION, (EmbeddingsQuestion, InferQuestion))
    for routes in (own_routes, openai_routes, protocol_routes, state_routes):
        app.include_router(routes(service))
    app.include_router(page_routes())
    for kind in (Refusal, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refused)
    guard = Guard(app, service.settings, service.metrics, _FREE | page_files().keys(), note)
    service.held = lambda: guard.held
    return guard


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """The one form of errors, whoever raised them."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        error = Refusal(error.status_code, f"{error.detail}; /openapi.json lists what there is")
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = Refusal(422, first["msg"], str(first["loc"][-1]))
    assert isinstance(error, Refusal)
    if error.status == 503:
        headers["Connection"] = "close"
    return JSONResponse(error.body(request.url.path), error.status, headers=headers | error.headers)
