"""SMALLER FILES: images, clips and sounds encoded anew, so that reading them costs what training needs and no more.

Shape suffixes: H W pixels, C colours, L samples of a sound.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from uniperceiver.data.media.clips import clip_extent, clip_frames, refuse_without_av, stored_clip
from uniperceiver.data.media.decode import MOST_PIXELS, decode_image
from uniperceiver.data.media.samples import array_sound
from uniperceiver.data.media.sounds import decode_sound, hear_sound, stored_sound
from uniperceiver.errors import BrokenSample
from uniperceiver.records.sounds import Sound, SoundShape

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

JPEG_QUALITY = 90
_RATE = Fraction(25)  # frames per second that a clip is written with: frames are chosen by number, never by time
_H264 = {"crf": "18", "preset": "veryfast", "tune": "fastdecode"}
_LONG = 600.0  # seconds of sounds that stay as they are
_BLOCK = 4096  # samples
_MPEG4 = {"qscale": "3"}  # where FFmpeg was built without x264


def small_image(image: bytes | np.ndarray, side: int, name: str, most_pixels: int = MOST_PIXELS) -> tuple[str, bytes]:
    """An image whose shorter side has at most `side` pixels: file type and bytes.

    A JPEG, PNG or WebP that is small enough stays as it is, other small pictures become PNG, all else JPEG.

    Raises:
        BrokenSample: it cannot be decoded.
    """
    # At twice the size, so that what a JPEG decoder leaves out is not what is to be seen.
    x_HWC = decode_image(image, name, 2 * side, most_pixels) if isinstance(image, bytes) else image
    height, width = x_HWC.shape[:2]
    if min(height, width) <= side:
        kind = _image_kind(image) if isinstance(image, bytes) else None
        return (kind, image) if kind is not None and isinstance(image, bytes) else ("png", _encoded(x_HWC, "PNG"))
    size = _shrunk(width, height, side)
    small = Image.fromarray(x_HWC).resize(size, Image.Resampling.BICUBIC)
    return "jpg", _encoded(np.asarray(small), "JPEG", quality=JPEG_QUALITY)


def small_clip(
    clip: bytes | np.ndarray, side: int, name: str, most_pixels: int = MOST_PIXELS, rate: int | None = None
) -> tuple[str, bytes]:
    """A clip whose shorter side has at most `side` pixels, with all its frames: file type and bytes.

    An MP4, WebM or AVI that is small enough stays as it is; all else becomes MP4 (H.264).

    Args:
        rate: samples a second of its sound track (FLAC, one channel), if it has one; None: without.

    Raises:
        BrokenSample: it cannot be decoded.
    """
    if isinstance(clip, bytes):
        extent = clip_extent(clip, name, most_pixels)  # every frame is decoded, also where the clip stays as it is
        kind = _clip_kind(clip)
        if kind is not None and min(extent.height, extent.width) <= side:
            return kind, clip
        frames = clip_frames(clip, name, most_pixels)
        if rate is None or not has_track(clip):
            return "mp4", _encoded_clip(frames, side)
        sound_L = decode_sound(clip, name, rate, lambda seconds: (0.0, seconds))
        stored = stored_clip(clip, name, most_pixels)
        # The frames last as long as they did, so that sound and picture stay together.
        speed = Fraction(stored.frames / stored.seconds).limit_denominator(1000) if stored.seconds else _RATE
        return "mp4", _encoded_clip(frames, side, speed, sound_L, rate)
    return "mp4", _encoded_clip(clip, side)


def small_sound(sound: bytes | Sound, rate: int, name: str) -> tuple[str, bytes]:
    """A sound of one channel at that rate: file type and bytes.

    A WAV, FLAC, Ogg, MP3 or M4A that is so already, and no larger than FLAC, stays as it is, and so does what lasts
    longer than ten minutes, of which a run reads parts; all else becomes FLAC of 16 bits or, where it exceeds full
    scale, WAV of floats.

    Raises:
        BrokenSample: it cannot be decoded.
    """
    if isinstance(sound, Sound):
        return _encoded_sound(array_sound(sound.array, sound.rate, name, rate, lambda seconds: (0.0, seconds)), rate)
    kind, heard = _sound_kind(sound), hear_sound(sound, name)
    if kind is not None and heard.seconds > _LONG:
        return kind, sound
    new_kind, data = _encoded_sound(decode_sound(sound, name, rate, lambda seconds: (0.0, seconds)), rate)
    stays = kind is not None and (heard.rate, heard.channels) == (rate, 1) and len(sound) <= len(data)
    return (kind, sound) if kind is not None and stays else (new_kind, data)


def has_track(clip: bytes) -> bool:
    """Whether an encoded clip has a sound track that can be opened."""
    try:
        return stored_sound(clip, "").seconds > 0
    except BrokenSample:
        return False


def _shrunk(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with the same aspect, the shorter one `side`; what is smaller is not enlarged."""
    shorter = min(width, height)
    if shorter <= side:
        return width, height
    return max(side, round(width * side / shorter)), max(side, round(height * side / shorter))


def _encoded(x_HWC: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x_HWC).save(file, kind, **options)
    return file.getvalue()


def _image_kind(data: bytes) -> str | None:
    if data[:2] == b"\xff\xd8":
        return "jpg"
    if data[:4] == b"\x89PNG":
        return "png"
    return "webp" if data[:4] == b"RIFF" else None


def _clip_kind(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "mp4"
    if data[:4] == b"RIFF":
        return "avi"
    return "webm" if b"webm" in data[:64] else None


def _sound_kind(data: bytes) -> str | None:
    for kind, head in {"flac": b"fLaC", "ogg": b"OggS", "mp3": b"ID3"}.items():
        if data.startswith(head):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[4:11] == b"ftypM4A":
        return "m4a"
    return "mp3" if data[:1] == b"\xff" and data[1:2] in (b"\xfb", b"\xf3", b"\xf2", b"\xfa") else None


def _encoded_clip(
    frames: Iterable[np.ndarray],
    side: int,
    speed: Fraction = _RATE,
    sound_L: np.ndarray | None = None,
    rate: int = 0,
) -> bytes:
    """The frames as an MP4, each the shorter side `side` or smaller; odd sides gain a pixel, as H.264 wants it.

    Args:
        speed: frames a second.
        sound_L: its sound, full scale 1, of `rate` samples a second.
    """
    refuse_without_av()
    import av

    rest: Iterator[np.ndarray] = iter(frames)
    first_HWC = next(rest)
    width, height = _shrunk(first_HWC.shape[1], first_HWC.shape[0], side)
    size = (width + width % 2, height + height % 2)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = _stream(container, *size, speed)
        track = None if sound_L is None else container.add_stream("flac", rate=rate, layout="mono")
        for number, x_HWC in enumerate(chain([first_HWC], rest)):
            small_HWC = np.array(Image.fromarray(x_HWC).resize(size, Image.Resampling.BICUBIC))
            frame = av.VideoFrame.from_ndarray(small_HWC, format="rgb24")
            frame.pts, frame.time_base = number, 1 / speed
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound_L is not None:
            _write_sound(container, track, sound_L, "s16")
    return file.getvalue()


def _encoded_sound(sound_L: np.ndarray, rate: int) -> tuple[str, bytes]:
    """The samples as FLAC, or where they exceed full scale as WAV of floats: file type and bytes."""
    refuse_without_av()
    import av

    beyond = float(np.abs(sound_L).max(initial=0)) > 1
    kind, codec, form = ("wav", "pcm_f32le", "flt") if beyond else ("flac", "flac", "s16")
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        _write_sound(container, container.add_stream(codec, rate=rate, layout="mono"), sound_L, form)
    return kind, file.getvalue()


def _write_sound(container: "OutputContainer", track: Any, sound_L: np.ndarray, form: str) -> None:
    """Write the samples of a track, which ends with them; `form` is that of its codec."""
    import av

    if form == "s16":
        sound_L = (sound_L * 32768).round().clip(-32768, 32767).astype(np.int16)
    for start in range(0, len(sound_L), _BLOCK):
        frame = av.AudioFrame.from_ndarray(sound_L[None, start : start + _BLOCK], format=form, layout="mono")
        frame.sample_rate, frame.pts = track.codec_context.sample_rate, start
        frame.time_base = Fraction(1, frame.sample_rate)
        container.mux(track.encode(frame))
    container.mux(track.encode())


def _stream(container: "OutputContainer", width: int, height: int, speed: Fraction) -> "VideoStream":
    from av.codec import codecs_available
    from av.video.stream import VideoStream

    codec, options = ("libx264", _H264) if "libx264" in codecs_available else ("mpeg4", _MPEG4)
    stream = container.add_stream(codec, rate=speed, options=dict(options))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1  # the processes that write shards are the parallelism
    return stream


@dataclass(frozen=True, kw_only=True)
class Storing:
    """How the media of a sample are stored."""

    side: int  # most pixels of the shorter side
    most_pixels: int  # of what is decoded
    rate: int | None  # samples a second of sounds; None: nobody hears, and clips need no track


# Modality -> what makes of (value, sample's name, how) the file type and bytes that are stored.
RECODERS: dict[str, Callable[[Any, str, Storing], tuple[str, bytes]]] = {
    "image": lambda image, name, how: small_image(image, how.side, name, how.most_pixels),
    "video": lambda clip, name, how: small_clip(clip, how.side, name, how.most_pixels, how.rate),
    "audio": lambda sound, name, how: small_sound(sound, how.rate or SoundShape.rate, name),
}
