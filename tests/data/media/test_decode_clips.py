"""Clips become RGB pixels of the frames that were chosen; what cannot is refused with a reason."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.clips import av, clip_bytes, fixed, which, write_clip
from uniperceiver.data.media import clips
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.errors import BrokenSample, UserError


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("mp4", "mpeg4"), ("avi", "mpeg4"), ("webm", "libvpx"), ("matroska", "libx264")],
)
def test_the_chosen_frames_are_taken(kind: str, codec: str) -> None:
    seen: list[int] = []
    clip_FHWC = decode_clip(clip_bytes(kind=kind, codec=codec), "x", fixed(0, 3, 4, 11, sees=seen))
    assert clip_FHWC.shape == (4, 32, 48, 3)
    assert clip_FHWC.dtype == np.uint8
    assert which(clip_FHWC) == [0, 3, 4, 11]
    assert seen == [12]


def test_frames_may_repeat() -> None:
    assert which(decode_clip(clip_bytes(frames=2), "x", fixed(0, 0, 1, 1, 1))) == [0, 0, 1, 1, 1]


def test_a_choice_out_of_range_is_our_mistake() -> None:
    for wrong in ((0, 2), (-1, 0), (1, 0), ()):
        with pytest.raises(ValueError, match="sorted indices below 2"):
            decode_clip(clip_bytes(frames=2), "x", fixed(*wrong))


class Silent:
    """A packet that announces a frame which never comes, as damaged files and some encoders have them."""

    size, is_discard = 1, False

    def decode(self) -> list[object]:
        """No frame."""
        return []


def test_announced_frames_that_never_come_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    packets = clips._packets
    monkeypatch.setattr(clips, "_packets", lambda container, *rest: [*packets(container, *rest), Silent()])

    def ends(count: int) -> np.ndarray:
        seen.append(count)
        return np.array([0, count - 1])

    assert which(decode_clip(clip_bytes(), "x", ends)) == [0, 11]
    assert seen == [13, 12]


def test_a_rotated_clip_is_upright() -> None:
    data = bytearray(clip_bytes(frames=2))
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, id, duration; reserved, layer, volume
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)  # clockwise, as telephones write it
    data[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    assert decode_clip(bytes(data), "x", fixed(0)).shape == (1, 48, 32, 3)


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (-1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, 1, -1, 0),
        (0, -1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_turned_and_mirrored_clips_are_upright(matrix: tuple[int, int, int, int]) -> None:
    # Four quarters of different grey; a container says that a pixel (x, y) is shown at (x, y) @ matrix.
    stored_HW = np.repeat(np.repeat(np.array([[30, 90], [150, 210]], dtype=np.uint8), 16, axis=0), 24, axis=1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.repeat(stored_HW[:, :, None], 3, axis=2), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    data = bytearray(file.getvalue())
    xx, xy, yx, yy = (sign << 16 for sign in matrix)
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[place : place + 36] = struct.pack(">9i", xx, xy, 0, yx, yy, 0, 0, 0, 1 << 30)

    shown = {}
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        at = (2 * np.array([x, y]) - 1) @ np.reshape(matrix, (2, 2))  # from the middle
        shown[int(at[1] > 0), int(at[0] > 0)] = stored_HW[31 * y, 47 * x]
    x_HW = decode_clip(bytes(data), "x", fixed(0))[0, :, :, 0].astype(int)
    height, width = x_HW.shape
    assert (height, width) == ((48, 32) if matrix[0] == 0 else (32, 48))
    for (down, right), grey in shown.items():
        quarter = x_HW[down * height // 2 :, right * width // 2 :][4 : height // 2 - 4, 4 : width // 2 - 4]
        assert np.abs(quarter - int(grey)).max() <= 6, (down, right)


def test_truncated_clips_are_broken(tmp_path: Path) -> None:
    write_clip(str(tmp_path / "x.mp4"), 12, "mp4", "libx264", movflags="faststart")
    data = (tmp_path / "x.mp4").read_bytes()  # its table of contents comes first, and outlives most cuts
    for percent in range(0, 100, 4):
        with pytest.raises(BrokenSample, match=r"^name: "):
            decode_clip(data[: percent * len(data) // 100], "name", fixed(0))


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx")])
def test_damaged_clips_never_raise_anything_else(kind: str, codec: str) -> None:
    data, rng = clip_bytes(4, kind, codec), np.random.default_rng(1)
    for _ in range(60):
        damaged = np.frombuffer(data, dtype=np.uint8).copy()
        damaged[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
        try:
            assert decode_clip(damaged.tobytes(), "x", fixed(0)).shape[3] == 3
        except BrokenSample:
            continue


def test_what_is_no_clip_is_broken() -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    for data in (b"<html>", b"\x89PNG\r\n\x1a\n", playlist):
        with pytest.raises(BrokenSample, match="not a clip"):
            decode_clip(data, "x", fixed(0))


def test_sound_alone_is_broken() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BrokenSample, match="no video stream"):
        decode_clip(file.getvalue(), "x", fixed(0))


def test_without_av_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        decode_clip(b"", "x", fixed(0))
    with pytest.raises(UserError, match=r"pip install av, or 'uniperceiver\[video\]'"):
        next(clips.clip_frames(b"", "x"))
