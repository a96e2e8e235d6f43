"""CONTAINERS of clips and sounds: whether a file ends before its announced end, where FFmpeg does not notice."""

_EBML = b"\x1a\x45\xdf\xa3"  # how WebM and MKV begin
_ID3, _OGG = b"ID3", b"OggS"
_XING = (b"Xing", b"Info", b"VBRI")  # what begins the table that says how long an MP3 is
_LOOKED_AT = 8192  # bytes of an MP3 behind its tag


def matroska_ends_early(data: bytes) -> bool:
    """Whether a WebM or MKV file is shorter than its outermost elements say; FFmpeg takes a cut for its end."""
    offset = 0
    while offset + 12 <= len(data) and (offset or data[:4] == _EBML):
        # An identifier of 1 to 4 bytes, then a size of 1 to 8: as many leading zero bits, so many further bytes.
        id_bytes, size_bytes = 9 - data[offset].bit_length(), 0
        if 1 <= id_bytes <= 4:
            size_bytes = 9 - data[offset + id_bytes].bit_length()
        if not 1 <= size_bytes <= 8:
            return False  # no element: what follows is not Matroska
        start = offset + id_bytes + size_bytes
        size = int.from_bytes(data[offset + id_bytes : start], "big") & ((1 << 7 * size_bytes) - 1)
        if size == (1 << 7 * size_bytes) - 1:
            return False  # a recording that was going on does not know its size
        offset = start + size
    return offset > len(data)


def avi_ends_early(data: bytes) -> bool:
    """Whether an AVI file is shorter than it says, as it is cut unnoticed between two frames."""
    offset = 0
    while data[offset : offset + 4] == b"RIFF" and data[offset + 8 : offset + 11] == b"AVI":
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if size in (0, 0xFFFFFFFF):
            return False  # a recording that was going on
        offset += 8 + size + size % 2
    return offset > len(data) + 1  # the byte that makes a size even may be missing at the end


def wave_of_a_pipe(data: bytes) -> bool:
    """Whether a WAV file was written into a pipe, by a program that could not go back and say how long it is."""
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        return False
    offset = 12
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if data[offset : offset + 4] == b"data":
            return size in (0, 0xFFFFFFFF)
        offset += 8 + size + size % 2
    return False


def ogg_ends_early(data: bytes) -> bool:
    """Whether the last page of an Ogg file is not all there, which FFmpeg takes for its end."""
    page = data.rfind(_OGG) if data[:4] == _OGG else -1
    if page < 0:
        return False
    header = data[page : page + 27]
    sizes = data[page + 27 : page + 27 + header[-1]] if len(header) == 27 else b""
    return len(header) < 27 or len(sizes) < header[-1] or page + 27 + len(sizes) + sum(sizes) > len(data)


def says_how_long(data: bytes, kind: str) -> bool:
    """Whether a file knows how long its sound is, so that a cut can be seen; else FFmpeg guesses it.

    Args:
        kind: FFmpeg's name of the container.
    """
    if kind == "ogg":
        return data.count(_OGG + b"\0\x02") == 1  # no other sound is chained behind the first
    if kind != "mp3":
        return kind == "flac"
    start = 0
    if data[:3] == _ID3:  # its size has seven bits a byte
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=False))
    return any(data.find(word, start, start + _LOOKED_AT) >= 0 for word in _XING)
