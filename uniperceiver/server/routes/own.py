"""The server's own protocol: /v1/classify, caption, rank, embed, experts, detect, segment, and /v1/model."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from uniperceiver.server.http import schema
from uniperceiver.server.http.bodies import read_question
from uniperceiver.server.http.guard import Passage
from uniperceiver.server.http.refusals import error_of
from uniperceiver.server.jobs import Answer
from uniperceiver.server.routes.described import ERRORS, asked_in
from uniperceiver.server.service import Service, ServiceAnswer, floats, halves


def own_routes(service: Service) -> APIRouter:
    """Routes of the server's own protocol."""
    routes = APIRouter(responses=ERRORS, tags=["own"])
    limits = service.settings.limits

    @routes.get("/v1/model")
    async def model() -> dict[str, Any]:
        """What the model is, its tasks and labels, and what the server takes."""
        return {**service.facts, "limits": asdict(limits)}

    @routes.post("/v1/classify", openapi_extra=asked_in(schema.ClassifyQuestion), response_model=schema.ClassifyAnswer)
    async def classify(request: Request) -> JSONResponse:
        """How likely each label is for each input: the softmax of cosine / temperature, which adds up to 1."""
        question, items = await read_question(request, schema.ClassifyQuestion, limits)
        labels = service.labels(question.labels, question.task)
        asked = await service.ask(_passage(request), "classify", question.of_model(), items)

        def result(answer: Answer) -> Mapping[str, Any]:
            probabilities, cosines = halves(floats(answer))
            rows = sorted(zip(labels, probabilities, cosines, strict=True), key=lambda row: -row[1])
            scores = [{"label": label, "probability": share, "cosine": cosine} for label, share, cosine in rows]
            return {"answer": rows[0][0], "scores": scores, **answer.values}

        return _answer(service, request, asked, result)

    @routes.post("/v1/caption", openapi_extra=asked_in(schema.CaptionQuestion), response_model=schema.CaptionAnswer)
    async def caption(request: Request) -> JSONResponse:
        """A caption for each picture, clip or sound."""
        question, items = await read_question(request, schema.CaptionQuestion, limits)
        asked = await service.ask(_passage(request), "caption", question.of_model(), items)
        return _answer(service, request, asked, lambda answer: answer.values)

    @routes.post("/v1/rank", openapi_extra=asked_in(schema.RankQuestion), response_model=schema.RankAnswer)
    async def rank(request: Request) -> JSONResponse:
        """The cosine of each picture, clip or sound with each text."""
        question, items = await read_question(request, schema.RankQuestion, limits)
        asked = await service.ask(_passage(request), "rank", question.of_model(), items)

        def result(answer: Answer) -> Mapping[str, Any]:
            rows = sorted(zip(question.texts, floats(answer), strict=True), key=lambda row: -row[1])
            return {"scores": [{"text": text, "cosine": cosine} for text, cosine in rows]}

        return _answer(service, request, asked, result)

    _add_inner_routes(routes, service)
    return routes


def _add_inner_routes(routes: APIRouter, service: Service) -> None:
    """What the model holds of inputs: vectors, experts, and places in pictures."""
    limits = service.settings.limits

    @routes.post("/v1/embed", openapi_extra=asked_in(schema.EmbedQuestion), response_model=schema.EmbedAnswer)
    async def embed(request: Request) -> JSONResponse:
        """A unit vector for each picture, clip, sound or text: their products are cosines."""
        question, items = await read_question(request, schema.EmbedQuestion, limits)
        asked = await service.ask(_passage(request), "embed", {"task": question.task}, items)

        def result(answer: Answer) -> Mapping[str, Any]:
            as_text = question.format == "base64"
            return {"embedding": base64.b64encode(answer.floats).decode() if as_text else floats(answer)}

        return _answer(service, request, asked, result, width=service.facts["width"])

    @routes.post("/v1/experts", openapi_extra=asked_in(schema.ExpertsQuestion), response_model=schema.ExpertsAnswer)
    async def experts(request: Request) -> JSONResponse:
        """Which experts compute the tokens of each input."""
        question, items = await read_question(request, schema.ExpertsQuestion, limits)
        asked = await service.ask(_passage(request), "experts", question.of_model(), items)
        return _answer(service, request, asked, lambda answer: answer.values)

    for kind in ("detect", "segment"):
        routes.add_api_route(
            f"/v1/{kind}",
            _located(service, kind),
            methods=["POST"],
            openapi_extra=asked_in(schema.DetectQuestion),
            response_model=schema.LocateAnswer,
        )


def _located(service: Service, kind: str) -> Callable[[Request], Any]:
    async def locate(request: Request) -> JSONResponse:
        """The things in each picture, with their boxes and, of segment, their masks."""
        question, items = await read_question(request, schema.DetectQuestion, service.settings.limits)
        asked = await service.ask(_passage(request), kind, question.of_model(), items)
        return _answer(service, request, asked, lambda answer: answer.values)

    return locate


def _passage(request: Request) -> Passage:
    passage: Passage = request.scope["passage"]
    return passage


def _answer(
    service: Service, request: Request, asked: ServiceAnswer, result: Callable[[Answer], Mapping[str, Any]], **more: Any
) -> JSONResponse:
    """The answer to a client: a result, or what was wrong, for each input."""
    results = [
        result(answer) if answer.error is None else {"error": error_of(422, answer.error, f"inputs[{place}]")}
        for place, answer in enumerate(asked.answers)
    ]
    seconds = time.monotonic() - _passage(request).start
    head = {"model": service.name, "results": results, "notes": list(asked.notes), "ms": round(1000 * seconds, 2)}
    return JSONResponse({**head, **more})
