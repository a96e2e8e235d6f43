"""How the server is: /health, /ready and /metrics."""

import os
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.metrics import resident_bytes
from uniperceiver.server.routes.described import ERRORS
from uniperceiver.server.service import Service


def state_routes(service: Service) -> APIRouter:
    """Routes that say how the server is."""
    routes = APIRouter(responses=ERRORS, tags=["state"])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @routes.get("/ready")
    async def ready() -> dict[str, Any]:
        """A question would be taken now."""
        if not service.is_ready:
            raise Refusal(503, "not ready: it stops, no engine has its model loaded, or the queue is full")
        return {"status": "ready", "engines": service.engines.ready}

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        gauges = {
            "queue_jobs": len(service.queue),
            "held_bytes": service.held(),
            "engines_ready": service.engines.ready,
        }
        processes = {"front": os.getpid(), **service.engines.processes}
        sizes = {who: size for who, process in processes.items() if (size := resident_bytes(process)) is not None}
        text = service.metrics.page(gauges, sizes)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return routes
