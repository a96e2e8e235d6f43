"""BODY -> QUESTION + ITEMS: JSON, a form with files, or the bytes of one file."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from uniperceiver.server.http.items import Item, from_base64, item_of, media_item, text_item
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.http.schema import Input, QuestionBody, check_texts
from uniperceiver.server.settings import Limits

Q = TypeVar("Q", bound=QuestionBody)
_MANY = frozenset({"labels", "texts"})  # fields of a form that are repeated, or have a value on each line
_NUMBERS: Mapping[str, type] = {"beam": int, "words": int, "most": int, "least": float}
_FORM, _FIELDS, _JSON = "multipart/form-data", "application/x-www-form-urlencoded", "application/json"
_RAW = ("application/octet-stream", "image/", "video/", "audio/")


class _InMemory(MultiPartParser):
    """Starlette's parser, which writes no file to the disk."""

    spool_max_size = 2**31


def content_type(request: Request) -> str:
    """The type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_question(request: Request, kind: type[Q], limits: Limits) -> tuple[Q, list[Item]]:
    """What a request asks, and about what.

    Raises:
        Refusal: another content type, a body that is damaged, fields that are missing, too much of something.
    """
    media = content_type(request)
    body = await request.body()
    if media == _JSON:
        question = parse_json(kind, body)
        items = [_item(value, f"inputs[{place}]", limits) for place, value in enumerate(question.inputs)]
    elif media == _FORM:
        fields, files = await _read_form(request.headers, body, limits)
        question, items = _of_form(kind, fields, files, limits)
    elif media == _FIELDS:
        question, items = _of_form(kind, _read_fields(body, limits), [], limits)
    elif media.startswith(_RAW):
        query = request.query_params
        fields = {name: query.getlist(name) for name in query.keys()}  # noqa: SIM118 - it may have a key twice
        question, items = _of_form(kind, fields, [body], limits)
        if media.startswith("audio/") and items[0].modality == "video":  # as MP4 and WebM without pictures begin
            items[0] = Item(modality="audio", data=body)
    else:
        raise Refusal(415, f"Content-Type must be {_JSON}, {_FORM}, {_FIELDS}, or that of a picture, clip or sound")
    if len(items) > limits.items:
        raise Refusal(422, f"{len(items)} inputs, more than {limits.items}; send them in several requests", "inputs")
    check_texts(question, limits)
    return question, items


def parse_json(kind: type[Any], body: bytes) -> Any:
    """A body of JSON as one of the schema's records.

    Raises:
        Refusal: no JSON, or fields that are wrong.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal_of(error) from None


def refusal_of(error: ValidationError) -> Refusal:
    """The first thing that is wrong with the fields of a body."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    status = 400 if first["type"] == "json_invalid" else 422
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    return Refusal(status, first["msg"], place[:200] or None)


def _item(sent: Input, param: str, limits: Limits) -> Item:
    fields = {name: value for name, value in sent if value is not None}
    if len(fields) != 1:
        raise Refusal(422, "give exactly one of image, video, audio and text", param)
    if sent.text is not None:
        return text_item(sent.text, f"{param}.text", limits)
    ((modality, encoded),) = fields.items()
    param = f"{param}.{modality}"
    return item_of(modality, from_base64(encoded, param), param)


def _read_fields(body: bytes, limits: Limits) -> dict[str, list[str]]:
    """The fields of a form without files.

    Raises:
        Refusal: it is damaged, or has too many of them.
    """
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_most_fields(limits))
    except (UnicodeDecodeError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read: {error}"[:200]) from None


def _most_fields(limits: Limits) -> int:
    return limits.labels + limits.items + 20


async def _read_form(headers: Headers, body: bytes, limits: Limits) -> tuple[dict[str, list[str]], list[bytes]]:
    """Fields and files of a form.

    Raises:
        Refusal: it is damaged, or has too many of them.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    most = limits.label_bytes + limits.text_bytes  # bytes of a field; what it may hold is looked at afterwards
    parser = _InMemory(headers, stream(), max_files=limits.items, max_fields=_most_fields(limits), max_part_size=most)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 422 if error.message.startswith("Too many") else 400
        raise Refusal(status, f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError, UnicodeError) as error:  # no boundary, or bytes that are no name
        raise Refusal(400, f"the form cannot be read: {type(error).__name__}") from None
    fields: dict[str, list[str]] = {}
    files: list[bytes] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields.setdefault(name, []).append(value)
        elif name == "file":
            files.append(await value.read())
        else:
            raise Refusal(422, "a file in a field of another name than file", _short(name))
    return fields, files


def _of_form(
    kind: type[Q], fields: Mapping[str, Sequence[str]], files: Sequence[bytes], limits: Limits
) -> tuple[Q, list[Item]]:
    """A question whose values are all texts. The field `input` is a text that is asked about."""
    items = [media_item(data, f"file[{place}]") for place, data in enumerate(files)]
    values: dict[str, Any] = {"inputs": [Input.model_validate({"text": ""})]}  # which are those in `items`
    for name, texts in fields.items():
        if name == "input":
            items += [text_item(text, f"input[{place}]", limits) for place, text in enumerate(texts)]
        elif name in _MANY:
            values[name] = [line for text in texts for line in text.splitlines() if line.strip()]
        elif len(texts) > 1:
            raise Refusal(422, "is there twice", _short(name))
        else:
            values[name] = _number(name, texts[0])
    if not items:
        raise Refusal(
            422, "no input: send a picture, clip or sound in the field file, or a text in the field input", "file"
        )
    try:
        return kind.model_validate(values), items
    except ValidationError as error:
        raise refusal_of(error) from None


def _number(name: str, text: str) -> Any:
    try:
        return _NUMBERS[name](text) if name in _NUMBERS else text
    except ValueError:
        raise Refusal(422, "is no number", name) from None


def _short(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name[:60])
