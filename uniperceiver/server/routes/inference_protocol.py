"""The Open Inference Protocol (KServe V2) over REST: tensors of bytes in, tensors of float32 or bytes out."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uniperceiver.server.http.bodies import content_type, parse_json, refusal_of
from uniperceiver.server.http.items import Item, from_base64, item_of, text_item
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.http.schema import (
    CaptionQuestion,
    ClassifyQuestion,
    EmbedQuestion,
    QuestionBody,
    RankQuestion,
    check_texts,
)
from uniperceiver.server.jobs import Answer
from uniperceiver.server.routes.described import STATUSES, json_in
from uniperceiver.server.service import Service, floats, halves
from uniperceiver.version import VERSION

_KINDS: dict[str, type[QuestionBody]] = {
    "embed": EmbedQuestion,
    "classify": ClassifyQuestion,
    "rank": RankQuestion,
    "caption": CaptionQuestion,
}
_OUTPUTS = {"embed": "embedding", "classify": "probability", "rank": "cosine", "caption": "caption"}


class ProtocolError(BaseModel):
    """What is wrong, as this protocol says it."""

    error: str


_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ProtocolError} for status in STATUSES}


class TensorIn(BaseModel):
    """Inputs: pictures, clips and sounds in base64, or texts."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Literal["image", "video", "audio", "text"]
    shape: list[int] = Field(min_length=1, max_length=2)
    datatype: Literal["BYTES"]
    data: list[str] = Field(min_length=1)
    parameters: dict[str, Any] | None = None


class InferQuestion(BaseModel):
    """A request of the protocol; `parameters` has `question` (embed, classify, rank, caption) and what goes with it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str | None = None
    inputs: list[TensorIn] = Field(min_length=1, max_length=1)
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] = Field({}, description="question, and its fields as in /v1/QUESTION")


class TensorOut(BaseModel):
    """Answers, row by row."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[str]


class InferAnswer(BaseModel):
    """An answer of the protocol."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[TensorOut]


def protocol_routes(service: Service) -> APIRouter:
    """Routes of the protocol."""
    routes = APIRouter(prefix="/v2", responses=_ERRORS, tags=["open inference protocol"])

    @routes.get("")
    async def server() -> dict[str, Any]:
        """What the server is."""
        return {"name": "uniperceiver", "version": VERSION, "extensions": []}

    @routes.get("/health/live")
    async def live() -> dict[str, bool]:
        """The process lives."""
        return {"live": True}

    @routes.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """A question would be taken now."""
        if not service.is_ready:
            raise Refusal(503, "not ready")
        return {"ready": True}

    @routes.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """What the model takes and gives."""
        _refuse_other(service, name)
        taken = [{"name": kind, "datatype": "BYTES", "shape": [-1]} for kind in ("image", "video", "audio", "text")]
        outputs = [
            {"name": _OUTPUTS[kind], "datatype": "BYTES" if kind == "caption" else "FP32", "shape": [-1, -1]}
            for kind in _KINDS
        ]
        return {"name": name, "versions": ["1"], "platform": "uniperceiver", "inputs": taken, "outputs": outputs}

    @routes.get("/models/{name}/ready")
    async def model_ready(name: str) -> dict[str, Any]:
        """The model is loaded."""
        _refuse_other(service, name)
        await ready()
        return {"name": name, "ready": True}

    @routes.post("/models/{name}/infer", openapi_extra=json_in(InferQuestion), response_model=InferAnswer)
    async def infer(name: str, request: Request) -> JSONResponse:
        """Ask the model."""
        return await _infer(service, name, request)

    return routes


async def _infer(service: Service, name: str, request: Request) -> JSONResponse:
    _refuse_other(service, name)
    if content_type(request) != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    asked: InferQuestion = parse_json(InferQuestion, await request.body())
    kind, question = _question(asked)
    items = _items(asked.inputs[0], service)
    check_texts(question, service.settings.limits)
    if isinstance(question, ClassifyQuestion):
        service.labels(question.labels, question.task)
    parameters = {"task": question.task} if kind == "embed" else question.of_model()
    outcome = await service.ask(request.scope["passage"], kind, parameters, items)
    for place, answer in enumerate(outcome.answers):
        if answer.error is not None:
            raise Refusal(422, f"inputs[0].data[{place}]: {answer.error}")
    head: dict[str, Any] = {"model_name": name, "model_version": "1"}
    if asked.id is not None:
        head["id"] = asked.id
    if outcome.notes:
        head["parameters"] = {"notes": list(outcome.notes)}
    return JSONResponse({**head, "outputs": list(_tensors(kind, outcome.answers))})


def _refuse_other(service: Service, name: str) -> None:
    if name != service.name:
        raise Refusal(404, f"no model of that name; this server has {service.name!r}")


def _question(asked: InferQuestion) -> tuple[str, QuestionBody]:
    """The question in the parameters.

    Raises:
        Refusal: there is no such question, or a field of it is wrong.
    """
    parameters = dict(asked.parameters)
    kind = parameters.pop("question", "embed")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Refusal(422, f"parameters.question: must be one of {', '.join(_KINDS)}")
    try:
        return kind, _KINDS[kind].model_validate({**parameters, "inputs": [{"text": ""}]})
    except ValidationError as error:
        raise refusal_of(error) from None


def _items(tensor: TensorIn, service: Service) -> list[Item]:
    """What is asked about.

    Raises:
        Refusal: another shape than the data have, too many, or something that is not what its name says.
    """
    limits, param = service.settings.limits, "inputs[0].data"
    if min(tensor.shape) < 0 or prod(tensor.shape) != len(tensor.data) or tensor.shape[1:] not in ([], [1]):
        raise Refusal(422, f"inputs[0].shape: {tensor.shape} for {len(tensor.data)} values; give [{len(tensor.data)}]")
    if len(tensor.data) > limits.items:
        raise Refusal(422, f"{len(tensor.data)} inputs, more than {limits.items}")
    if tensor.name == "text":
        return [text_item(text, param, limits) for text in tensor.data]
    return [item_of(tensor.name, from_base64(text, param), param) for text in tensor.data]


def _tensors(kind: str, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    if kind == "caption":
        texts = [answer.values["caption"] for answer in answers]
        yield {"name": _OUTPUTS[kind], "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        return
    rows = [floats(answer) for answer in answers]
    named = {_OUTPUTS[kind]: rows}
    if kind == "classify":
        named = {_OUTPUTS[kind]: [halves(row)[0] for row in rows], "cosine": [halves(row)[1] for row in rows]}
    for name, values in named.items():
        data = [value for row in values for value in row]
        yield {"name": name, "datatype": "FP32", "shape": [len(values), len(values[0])], "data": data}
