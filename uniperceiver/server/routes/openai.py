"""OpenAI's protocol, as far as it is about vectors: /v1/embeddings and /v1/models."""

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from uniperceiver.server.http.bodies import content_type, parse_json
from uniperceiver.server.http.items import Item, from_base64, media_item, text_item
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.routes.described import ERRORS, json_in
from uniperceiver.server.service import Service, floats
from uniperceiver.server.settings import Limits


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EmbeddingInput(_Strict):
    """A text or a picture, as Jina's API has them."""

    text: str | None = None
    image: str | None = Field(None, description="base64, or a data: URL")


class ImageURL(_Strict):
    """A picture in a message."""

    url: str = Field(description="a data: URL; nothing is fetched")
    detail: str | None = None


class MessagePart(_Strict):
    """A part of a message."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageURL | None = None


class Message(_Strict):
    """A message, as vLLM takes them for embeddings."""

    role: str
    content: str | list[MessagePart]


class EmbeddingsQuestion(_Strict):
    """What clients of OpenAI send: `input`, or vLLM's `messages` with one thing in them."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1)] | list[EmbeddingInput] | None = None
    messages: list[Message] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class EmbeddingRow(BaseModel):
    """A vector of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """What OpenAI's clients read."""

    object: Literal["list"]
    model: str
    data: list[EmbeddingRow]
    usage: dict[str, int]


def openai_routes(service: Service) -> APIRouter:
    """Routes of OpenAI's protocol."""
    routes = APIRouter(responses=ERRORS, tags=["openai"])

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [_entry(service)]}

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """The one model, if that is its name."""
        _refuse_other(service, name)
        return _entry(service)

    @routes.post("/v1/embeddings", openapi_extra=json_in(EmbeddingsQuestion), response_model=EmbeddingsAnswer)
    async def embeddings(request: Request) -> JSONResponse:
        """Vectors of texts and pictures."""
        if content_type(request) != "application/json":
            raise Refusal(415, "Content-Type must be application/json")
        question: EmbeddingsQuestion = parse_json(EmbeddingsQuestion, await request.body())
        _refuse_other(service, question.model)
        if question.dimensions not in (None, service.facts["width"]):
            raise Refusal(422, f"the vectors have {service.facts['width']} numbers, and are not cut", "dimensions")
        limits = service.settings.limits
        items = list(_items(question, limits))
        if not 0 < len(items) <= limits.items:
            raise Refusal(422, f"{len(items)} inputs; send 1 to {limits.items}", "input")
        asked = await service.ask(request.scope["passage"], "embed", {"task": None}, items)
        for place, answer in enumerate(asked.answers):
            if answer.error is not None:  # this protocol has no place for it beside other answers
                raise Refusal(422, answer.error, f"input[{place}]")
        if asked.notes:
            raise Refusal(422, asked.notes[0], "input")
        as_text = question.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(answer.floats).decode() if as_text else floats(answer),
            }
            for place, answer in enumerate(asked.answers)
        ]
        tokens = sum(answer.values.get("tokens", 0) for answer in asked.answers)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "model": service.name, "data": data, "usage": usage})

    return routes


def _entry(service: Service) -> dict[str, Any]:
    return {"id": service.name, "object": "model", "created": service.started, "owned_by": "uniperceiver"}


def _refuse_other(service: Service, name: str) -> None:
    if name != service.name:
        raise Refusal(404, f"no model of that name; this server has {service.name!r}", "model")


def _items(question: EmbeddingsQuestion, limits: Limits) -> Iterator[Item]:
    """What is embedded.

    Raises:
        Refusal: neither or both of `input` and `messages`, or something in them that cannot be embedded.
    """
    if (question.input is None) == (question.messages is None):
        raise Refusal(422, "give either input or messages", "input")
    if question.messages is not None:
        yield _of_messages(question.messages, limits)
        return
    inputs = question.input if isinstance(question.input, list) else [question.input]
    for place, value in enumerate(inputs):
        param = f"input[{place}]"
        text = value if isinstance(value, str) else value.text if value else None
        image = value.image if isinstance(value, EmbeddingInput) else None
        if (text is None) == (image is None):
            raise Refusal(422, "give either text or image", param)
        yield _picture(image, param) if image is not None else text_item(text or "", param, limits)


def _of_messages(messages: list[Message], limits: Limits) -> Item:
    """The only text or picture in messages."""
    parts: list[str | ImageURL | None] = []
    for message in messages:
        if isinstance(message.content, str):
            parts.append(message.content)
        else:
            parts += [part.text if part.type == "text" else part.image_url for part in message.content]
    if len(parts) != 1 or parts[0] is None:
        raise Refusal(422, f"messages with {len(parts)} texts and pictures; give one, or use input", "messages")
    part = parts[0]
    return text_item(part, "messages", limits) if isinstance(part, str) else _picture(part.url, "messages")


def _picture(encoded: str, param: str) -> Item:
    item = media_item(from_base64(encoded, param), param)
    if item.modality != "image":
        raise Refusal(422, "is no picture", param)
    return item
