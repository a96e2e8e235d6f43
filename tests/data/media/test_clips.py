"""Whole clips: cut ones, giants and changing sizes are found; what is too short or of no fixed rate is read."""

import io
import struct
from fractions import Fraction

import numpy as np
import pytest

from tests.clips import av, clip_bytes, fixed, motion_jpeg, which
from uniperceiver.config import AugmentConfig
from uniperceiver.data.media import clips
from uniperceiver.data.media.clips import (
    Extent,
    clip_extent,
    clip_frames,
    decode_clip,
)
from uniperceiver.data.media.preprocess import Preprocess, clip_pixels
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample


def test_a_clip_that_is_too_short_repeats_its_last_frame() -> None:
    sample = Sample(id="x", clip=clip_bytes(frames=3))
    view = Preprocess(size=32, frames=6, stride=2, clip_mean=(0.0, 0.0, 0.0), clip_std=(1.0, 1.0, 1.0))
    for rng in (None, np.random.default_rng(0)):
        pixels_FCHW = clip_pixels(sample, view, AugmentConfig(), rng)
        assert pixels_FCHW.shape == (6, 3, 32, 32)
        assert which(pixels_FCHW.numpy() * 255) == [0, 2, 2, 2, 2, 2]


def test_frames_of_a_variable_rate_are_chosen_by_number() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(100))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index, time in enumerate((0, 1, 2, 40, 41, 300)):  # hundredths of a second
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 16 * index + 30, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    seen: list[int] = []
    assert which(decode_clip(file.getvalue(), "x", fixed(0, 2, 3, 5, sees=seen))) == [0, 2, 3, 5]
    assert seen == [6]


@pytest.mark.parametrize(
    ("kind", "codec"), [("webm", "libvpx"), ("matroska", "libx264"), ("avi", "mpeg4"), ("mov", "mpeg4")]
)
def test_truncated_clips_of_all_containers_are_broken(kind: str, codec: str) -> None:
    data = clip_bytes(14, kind, codec)
    assert which(decode_clip(data, "x", fixed(0, 9))) == [0, 9]
    for length in range(0, len(data) - 40, 29):  # the end of a MOV is not needed
        with pytest.raises(BrokenSample, match=r"^x: "):
            decode_clip(data[:length], "x", fixed(0))
        with pytest.raises(BrokenSample, match=r"^x: "):
            clip_extent(data[:length], "x")


def test_a_recording_that_does_not_know_its_size_is_whole() -> None:
    data = bytearray(clip_bytes(6, "matroska"))
    segment = data.index(b"\x18\x53\x80\x67") + 4
    data[segment : segment + 8] = b"\x01" + b"\xff" * 7
    assert which(decode_clip(bytes(data), "x", fixed(0, 5))) == [0, 5]


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx")])
def test_a_clip_without_frames_is_broken(kind: str, codec: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.start_encoding()
    for read in (lambda data: decode_clip(data, "x", fixed(0)), lambda data: clip_extent(data, "x")):
        with pytest.raises(BrokenSample, match=r"no frames|no video stream|not a clip"):
            read(file.getvalue())


def test_a_frame_that_is_a_giant_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_clip(motion_jpeg((48, 32), (48, 32)), "x", fixed(0, 1), 3000).shape == (2, 32, 48, 3)
    sizes: list[tuple[int, int]] = []
    upright = clips._upright_frame
    monkeypatch.setattr(
        clips, "_upright_frame", lambda frame, *rest: sizes.append((frame.width, frame.height)) or upright(frame, *rest)
    )
    with pytest.raises(BrokenSample, match="damaged or not a clip"):
        decode_clip(motion_jpeg((48, 32), (96, 64)), "x", fixed(0, 1), 3000)
    assert sizes == [(48, 32)]
    assert clips.MOST_PIXELS == 40_000_000


def with_cover(film: bool, first: bool) -> bytes:
    """An MP4 with a cover, which is a video stream to FFmpeg: before a film or behind it, or beside sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264" if film else "aac", rate=8 if film else 44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        if film:
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
        picture.pts = 0
        container.mux([*cover.encode(picture), *cover.encode()])
        for index in range(4):
            if film:
                pixels_HWC = np.full((32, 48, 3), 16 * index + 30, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
            else:
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                sound.rate = 44100
                container.mux(stream.encode(sound))
        container.mux(stream.encode())
    data = file.getvalue()
    if not first:
        return data
    # The atom with the cover before that of the film, as some programs write them.
    start = data.index(b"moov") - 4
    size, rest = int.from_bytes(data[start : start + 4], "big"), start + 8
    parts: dict[bytes, bytes] = {}
    while rest < start + size:
        length = int.from_bytes(data[rest : rest + 4], "big")
        parts[data[rest + 4 : rest + 8]] = data[rest : rest + length]
        rest += length
    order = sorted(parts, key=[b"mvhd", b"udta", b"trak"].index)
    return data[: start + 8] + b"".join(parts[kind] for kind in order) + data[start + size :]


@pytest.mark.parametrize("first", [False, True])
def test_a_cover_is_no_clip(first: bool) -> None:
    data = with_cover(film=True, first=first)
    with av.open(io.BytesIO(data)) as container:
        assert [stream.codec_context.name for stream in container.streams.video].index("mjpeg") == (not first)
    assert which(decode_clip(data, "x", fixed(0, 2, 3))) == [0, 2, 3]
    assert clip_extent(data, "x") == Extent(frames=4, height=32, width=48)


def test_sound_with_a_cover_is_no_clip() -> None:
    with pytest.raises(BrokenSample, match=r"^x: no video stream but a cover picture$"):
        decode_clip(with_cover(film=False, first=False), "x", fixed(0))


def test_frames_of_several_sizes_break_a_clip() -> None:
    for read in (lambda data: decode_clip(data, "x", fixed(0, 1)), lambda data: clip_extent(data, "x")):
        with pytest.raises(BrokenSample, match="the size of the frames changes"):
            read(motion_jpeg((48, 32), (64, 32)))


def test_the_extent_of_a_clip_and_all_of_its_frames() -> None:
    data = bytearray(clip_bytes(frames=4))
    assert clip_extent(bytes(data), "x") == Extent(frames=4, height=32, width=48)
    assert which(np.stack(list(clip_frames(bytes(data), "x")))) == [0, 1, 2, 3]
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    assert clip_extent(bytes(data), "x") == Extent(frames=4, height=48, width=32)
    assert next(clip_frames(bytes(data), "x")).shape == (48, 32, 3)


def test_damage_that_a_choice_would_not_see_is_seen() -> None:
    data = bytearray(motion_jpeg((48, 32), (48, 32), (48, 32)))
    place = data.rindex(b"\xff\xd8\xff")  # where the last frame begins
    data[place : place + 200] = bytes(200)
    assert decode_clip(bytes(data), "x", fixed(0, 1)).shape == (2, 32, 48, 3)
    for read in (lambda: clip_extent(bytes(data), "x"), lambda: list(clip_frames(bytes(data), "x"))):
        with pytest.raises(BrokenSample, match="damaged or not a clip"):
            read()


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "libx264"), ("mp4", "mpeg4"), ("avi", "mpeg4"), ("webm", "libvpx"), ("mov", "mpeg4")]
)
def test_frames_beyond_the_limit_are_named_as_that(kind: str, codec: str) -> None:
    data = clip_bytes(3, kind, codec)
    assert len(decode_clip(data, "x", fixed(0))) == 1
    with pytest.raises(BrokenSample, match=r"more than 0\.0005 megapixels; raise data\.megapixels"):
        decode_clip(data, "x", fixed(0), 500)
