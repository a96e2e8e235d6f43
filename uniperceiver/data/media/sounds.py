"""ENCODED BYTES -> SAMPLES of sounds, and of the sound tracks of clips, through PyAV. No file is opened here.

Time is a count of decoded samples; the times that a container gives its packets only find a place in the middle.

Shape suffixes: L samples of a sound, C its channels.
"""

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.data.media.clips import refuse_without_av
from uniperceiver.data.media.containers import (
    avi_ends_early,
    matroska_ends_early,
    ogg_ends_early,
    says_how_long,
    wave_of_a_pipe,
)
from uniperceiver.data.media.samples import (
    MARGIN,
    MOST_CHANNELS,
    SILENT,
    HeardSound,
    Window,
    refuse_rate,
    scaled,
    sound_part,
)
from uniperceiver.errors import BrokenSample, undecodable
from uniperceiver.modalities import refuse_heavy

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

MOST_SECONDS = 4 * 3600

# Only these of FFmpeg's formats see a user's bytes: its playlists would open other files and addresses.
_SOUND_FORMATS = "wav,w64,flac,ogg,mp3,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,aiff,avi"
# To look into more of a file finds nothing more, and would be nine tenths of the time of a WAV file.
_OPTIONS = {"format_whitelist": _SOUND_FORMATS, "probesize": "32768", "analyzeduration": "0"}
_CHECKED = {"err_detect": "crccheck+explode"}  # else damaged FLAC is decoded as if nothing were wrong
_WHOLE = 10.0  # seconds; what is shorter is decoded whole, so that its length is exact
_IN_MEMORY = 600.0  # seconds; in what is longer a place is looked for
_BEFORE = 1.0  # seconds that are decoded before a place in the middle, until decoders have recovered
_CUT = 0.9  # of the announced length, below which a sound was cut
_AGREE = 0.05  # of its length, by which packets of Ogg may err
_GAP = 0.05  # seconds by which what is decoded may lie behind the times of its packets, where those are exact
_TRUNCATED, _NOTHING = "the sound is truncated", "no samples"


@dataclass(frozen=True, kw_only=True)
class StoredSound:
    """What a file says of its sound, before anything is decoded."""

    seconds: float
    rate: int  # samples a second
    channels: int


def decode_sound(data: bytes, name: str, rate: int, window: Window) -> np.ndarray:
    """A part of an encoded sound (WAV, FLAC, Ogg, Opus, MP3, M4A, AAC, AIFF), or of the first sound track of a clip.

    Channels are averaged; where they cancel each other, the loudest is taken. Around the sound there is silence.

    Args:
        rate: samples a second of what is given.
        window: from the seconds of the sound to the seconds where the part begins and ends.

    Returns:
        (L,) float32, where full scale is 1, with L = (end - beginning) times rate.

    Raises:
        BrokenSample: not such a sound, truncated, without samples, too long, or with values that are no sound.
        UserError: the package av is missing.
    """
    with _opened(data, name) as track:
        if track.seconds <= _WHOLE:
            first, x_CL, own_rate = track.decoded(0, math.inf)
            start, stop = window(x_CL.shape[1] / own_rate)
        else:
            start, stop = window(track.seconds)
            first, x_CL, own_rate = track.decoded(start - MARGIN, stop + MARGIN)
    return sound_part(x_CL, first, own_rate, name, rate, start, stop)


def stored_sound(data: bytes, name: str) -> StoredSound:
    """Length, rate and channels of an encoded sound, without decoding it.

    Raises:
        BrokenSample: as `decode_sound`, as far as that is seen without decoding.
    """
    with _opened(data, name) as track:
        context = track.stream.codec_context
        return StoredSound(seconds=track.seconds, rate=context.sample_rate, channels=context.channels)


def hear_sound(data: bytes, name: str) -> HeardSound:
    """Decode all of a sound, keep nothing.

    Raises:
        BrokenSample: as `decode_sound`, also where a part is damaged that it would not give.
    """
    samples, peak, rate, channels = 0, 0.0, 0, 0
    with _opened(data, name) as track:
        for place, frame in track.frames():
            x_CL = scaled(_samples([frame], name), name)
            peak = max(peak, float(np.abs(x_CL).max(initial=0)))
            samples, rate, channels = place + frame.samples, frame.sample_rate, len(x_CL)
        track.refuse_end(samples, rate)
    return HeardSound(seconds=samples / rate, rate=rate, channels=channels, silent=peak < SILENT)


@dataclass(frozen=True)
class _Track:
    """An opened sound."""

    container: "InputContainer"
    stream: "AudioStream"
    name: str
    packets: list["Packet"] | None  # None: too many, a place is looked for
    seconds: float  # as the packets say, or the file where there are too many
    announced: float  # by a file that knows, else 0

    def decoded(self, start: float, stop: float) -> tuple[int, np.ndarray, int]:
        """What lies between these seconds: the place of its first sample, the samples (C, L), and their rate."""
        chosen: list[AudioFrame] = []
        first, end, rate = 0, 0, 0
        for place, frame in self.frames(start):
            end, rate = place + frame.samples, frame.sample_rate
            if place >= stop * rate:
                break
            if end > start * rate:
                first = first if chosen else place
                chosen.append(frame)
        else:
            self.refuse_end(end, rate)
        if not chosen:  # the part lies behind the end
            return 0, np.zeros((1, 0), np.float32), rate
        return first, _samples(chosen, self.name), rate

    def frames(self, start: float = 0.0) -> Iterator[tuple[int, "AudioFrame"]]:
        """The decoded frames from a second on, or from some before it, each with the place of its first sample."""
        packets: Iterable[Packet] = _demuxed(self.container, self.stream) if self.packets is None else self.packets
        place: int | None = 0
        origin = 0.0
        if start > 2 * _BEFORE:
            first = next((frame for packet in packets for frame in self.stream.decode(packet)), None)
            if first is not None and first.time is not None:
                origin, place = first.time, None
                packets = self._from(origin + start - _BEFORE, packets)
            self.stream.codec_context.flush_buffers()
        shape: tuple[int, int] | None = None
        for packet in packets:
            for frame in self._frames_of(packet, place):
                shape = shape or (frame.sample_rate, frame.layout.nb_channels)
                if shape != (frame.sample_rate, frame.layout.nb_channels):
                    return  # another sound is chained behind the first
                if place == 0 and frame.time is not None:
                    origin = frame.time
                if place is None:
                    place = round(((frame.time or 0.0) - origin) * frame.sample_rate)
                self._refuse_gap(frame, place, origin)
                yield place, frame
                place += frame.samples

    def _from(self, time: float, packets: Iterable["Packet"]) -> Iterable["Packet"]:
        """The packets from that time of the container on."""
        if self.packets is None:
            self.container.seek(int(time * 1_000_000))
            return _demuxed(self.container, self.stream)
        return (
            p for p in self.packets if p.size == 0 or p.pts is None or (p.pts + (p.duration or 0)) * p.time_base > time
        )

    def _frames_of(self, packet: "Packet", place: int | None) -> list["AudioFrame"]:
        """What a packet is decoded to; in the middle of a file a decoder may first lack what came before (None)."""
        import av

        try:
            return self.stream.decode(packet)
        except av.error.InvalidDataError:
            if place is None:
                return []
            raise

    def _refuse_gap(self, frame: "AudioFrame", place: int, origin: float) -> None:
        """Refuse a sound of which a part was left out, as it was damaged."""
        ahead = 0.0 if frame.time is None else frame.time - origin - place / frame.sample_rate
        if self.announced and ahead > _GAP:
            raise BrokenSample(
                self.name, f"damaged: {ahead:.1f} seconds are missing at {place / frame.sample_rate:.1f}"
            )

    def refuse_end(self, samples: int, rate: int) -> None:
        """Refuse a sound whose decoding ended after that many samples, if there is none or it should be longer.

        Raises:
            BrokenSample: so it is.
        """
        if not samples:
            raise BrokenSample(self.name, _NOTHING)
        exact = self.container.format.name == "flac"  # which tells its samples
        if samples / rate < self.announced * (1 - 1e-6 if exact else _CUT):
            raise BrokenSample(self.name, f"{_TRUNCATED}: {samples / rate:.3g} of {self.announced:.3g} seconds")


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[_Track]:
    """A sound's first track; what goes wrong with it is a BrokenSample."""
    refuse_without_av()
    import av

    refuse_heavy("audio", len(data), name)
    if matroska_ends_early(data) or avi_ends_early(data) or ogg_ends_early(data):
        raise BrokenSample(name, _TRUNCATED)
    try:
        with av.open(io.BytesIO(data), mode="r", metadata_errors="replace", options=dict(_OPTIONS)) as container:
            yield _track(container, data, name)
    except av.error.FFmpegError as error:
        raise BrokenSample(name, undecodable(data, f"damaged or not a sound ({error.strerror})")) from None


def _demuxed(container: "InputContainer", stream: "AudioStream") -> Iterator["Packet"]:
    """The packets of a stream, up to another sound of another form that is chained behind it."""
    import av

    with suppress(av.error.PatchWelcomeError):
        yield from container.demux(stream)


def _track(container: "InputContainer", data: bytes, name: str) -> _Track:
    if not container.streams.audio:
        raise BrokenSample(name, "no sound track" if container.streams.video else "no sound in it")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise BrokenSample(name, "a sound that no decoder knows")
    context.thread_count = 1  # the loader's processes are the parallelism
    context.options = dict(_CHECKED)
    refuse_rate(context.sample_rate, name)
    if not 1 <= context.channels <= MOST_CHANNELS:
        raise BrokenSample(name, f"{context.channels} channels; a sound has 1 to {MOST_CHANNELS}")
    own = 0.0 if stream.duration is None else float(stream.duration * (stream.time_base or 0))
    in_header = own or (container.duration or 0) / 1_000_000  # of all tracks
    _refuse_length(in_header, name)
    announced = in_header if says_how_long(data, container.format.name) else 0.0
    if in_header > _IN_MEMORY:
        return _Track(container, stream, name, None, in_header, announced)
    packets = list(_demuxed(container, stream))
    if any(packet.is_corrupt for packet in packets) and not wave_of_a_pipe(data):
        raise BrokenSample(name, _TRUNCATED)
    # The last packet of an Ogg file may take off samples: a negative duration, which FFmpeg says as one of 32 bits.
    durations = [(p.duration or 0, p.time_base) for p in packets if not p.is_discard]
    seconds = float(sum((units - (units >> 31 << 32)) * unit for units, unit in durations))
    if abs(in_header - seconds) < _AGREE * seconds:  # else the header tells a guess from the bits a second
        seconds = in_header
    _refuse_length(seconds, name)
    return _Track(container, stream, name, packets, seconds, announced)


def _refuse_length(seconds: float, name: str) -> None:
    if seconds > MOST_SECONDS:
        hours = f"{seconds / 3600:.1f} hours: more than {MOST_SECONDS // 3600}"
        raise BrokenSample(name, f"{hours}; cut it into parts, as with ffmpeg -f segment -segment_time 600")


def _samples(frames: list["AudioFrame"], name: str) -> np.ndarray:
    """The samples of decoded frames of one layout, (C, L), as they are stored."""
    try:
        arrays = [frame.to_ndarray() for frame in frames]
    except ValueError:  # of formats that NumPy has, but PyAV does not hand over
        raise BrokenSample(name, f"samples of the form {frames[0].format.name}; save them as 16 bits") from None
    x = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
    return x if frames[0].format.is_planar else x.reshape(-1, frames[0].layout.nb_channels).T
