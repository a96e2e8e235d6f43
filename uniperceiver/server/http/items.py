"""BYTES -> ITEMS: what clients send as pictures, clips and texts. Their names and content types are not looked at."""

import binascii
from dataclasses import dataclass

from uniperceiver.modalities import TEXT
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.settings import Limits

_TAKEN = "a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC picture, or an MP4, MOV, AVI, WebM or MKV clip"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is asked about."""

    modality: str
    data: bytes  # of a text, UTF-8


def media_item(data: bytes, param: str) -> Item:
    """A picture or a clip, by its first bytes.

    Raises:
        Refusal: it begins like neither.
    """
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return Item(modality="image", data=data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Item(modality="image", data=data)
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return Item(modality="video", data=data)
    if data[4:8] == b"ftyp":  # HEIC and AVIF begin as clips do
        is_picture = data[8:11] in (b"hei", b"hev", b"mif", b"msf", b"avi")
        return Item(modality="image" if is_picture else "video", data=data)
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return Item(modality="video", data=data)
    raise Refusal(422, f"is {'empty' if not data else 'not of a kind that is read'}; send {_TAKEN}", param)


def text_item(text: str, param: str, limits: Limits) -> Item:
    """A text.

    Raises:
        Refusal: it is too long, or holds half of a character.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise Refusal(422, "is not valid Unicode; send whole characters", param) from None
    if len(data) > limits.text_bytes:
        raise Refusal(422, f"has more than {limits.text_bytes:,} bytes; send a shorter text", param)
    return Item(modality=TEXT, data=data)


def from_base64(text: str, param: str) -> bytes:
    """The bytes of base64, bare or in a data: URL.

    Raises:
        Refusal: another URL, or no base64.
    """
    begin = text[:8].lower()
    if begin.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Refusal(422, "is a data: URL without base64; send data:image/png;base64,...", param)
    elif "://" in text[:32] or begin.startswith(("http:", "https:", "file:", "ftp:")):
        raise Refusal(400, "is a URL, and this server fetches nothing; send the bytes in base64, or as data:", param)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):  # a character that is not ASCII
        raise Refusal(422, "is no base64 (RFC 4648, with padding and without spaces)", param) from None
