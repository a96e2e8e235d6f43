"""BYTES -> ITEMS: what clients send as pictures, clips, sounds and texts. Their names are not looked at."""

import binascii
from dataclasses import dataclass

from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.settings import Limits

_TAKEN = (
    "a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC picture, an MP4, MOV, AVI, WebM or MKV clip, or a WAV, FLAC, Ogg, "
    "Opus, MP3, M4A, AAC or AIFF sound"
)
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"riff\x2e\x91\xcf\x11", b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9")
_MP3 = tuple(bytes((0xFF, 0xE0 | version | 0x02 | bare)) for version in (0x00, 0x10, 0x18) for bare in (0, 1))
_NOUNS = {"image": "a picture", "video": "a clip", "audio": "a sound"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is asked about."""

    modality: str
    data: bytes  # of a text, UTF-8


def media_item(data: bytes, param: str) -> Item:
    """A picture, a clip or a sound, by its first bytes.

    Raises:
        Refusal: it begins like none of them.
    """
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return Item(modality="image", data=data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Item(modality="image", data=data)
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return Item(modality="video", data=data)
    if (data[:4], data[8:12]) in ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")):
        return Item(modality="audio", data=data)
    if data.startswith((*_SOUNDS, *_MP3)) or data[4:12] in (b"ftypM4A ", b"ftypM4B "):
        return Item(modality="audio", data=data)
    if data[4:8] == b"ftyp":  # HEIC and AVIF begin as clips do
        is_picture = data[8:11] in (b"hei", b"hev", b"mif", b"msf", b"avi")
        return Item(modality="image" if is_picture else "video", data=data)
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return Item(modality="video", data=data)
    raise Refusal(422, f"is {'empty' if not data else 'not of a kind that is read'}; send {_TAKEN}", param)


def item_of(modality: str, data: bytes, param: str) -> Item:
    """What is sent as being of a modality; a clip is a sound, too, which is its first sound track.

    Raises:
        Refusal: it begins like something else.
    """
    item = media_item(data, param)
    if item.modality not in (modality, MODALITIES[modality].track_of):
        raise Refusal(422, f"is {_NOUNS[item.modality]}; send it as {item.modality}", param)
    return Item(modality=modality, data=data)


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
