"""Images become RGB pixels; what cannot is refused with a reason."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from uniperceiver.data.media.decode import decode_image, missing_decoders
from uniperceiver.errors import BrokenSample


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(height: int = 5, width: int = 7) -> np.ndarray:
    """Pixels that differ everywhere, (H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    x_HWC = gradient()
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (decode_image(encode(Image.fromarray(x_HWC), kind, **options), "x") == x_HWC).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1)])
def test_odd_sizes(height: int, width: int) -> None:
    x_HWC = gradient(height, width)
    decoded = decode_image(encode(Image.fromarray(x_HWC)), "x")
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    assert (decoded == x_HWC).all()


def test_grey_is_repeated() -> None:
    grey_HW = gradient()[:, :, 0]
    assert (decode_image(encode(Image.fromarray(grey_HW)), "x") == grey_HW[:, :, None]).all()


def test_16_bits_keep_the_upper_8() -> None:
    grey_HW = np.array([[0, 255, 256], [32768, 65279, 65535]], dtype=np.uint16)
    assert decode_image(encode(Image.fromarray(grey_HW)), "x")[:, :, 1].tolist() == [[0, 0, 1], [128, 254, 255]]


def test_the_grey_of_16_bits_that_is_transparent_shows_white() -> None:
    data = encode(Image.fromarray(np.array([[1000, 1001, 32768]], dtype=np.uint16)))
    clear = b"tRNS" + struct.pack(">H", 1000)  # 1001 has the same upper 8 bits, and is none of it
    chunk = struct.pack(">I", 2) + clear + struct.pack(">I", zlib.crc32(clear))
    place = data.index(b"IDAT") - 4
    assert decode_image(data[:place] + chunk + data[place:], "x")[0, :, 0].tolist() == [255, 3, 128]


def test_transparent_pixels_show_white() -> None:
    rgba = Image.fromarray(np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], dtype=np.uint8))
    assert decode_image(encode(rgba), "x").tolist() == [[[255] * 3, [10, 20, 30], [127] * 3]]


def test_palette_with_and_without_transparency() -> None:
    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    assert decode_image(encode(palette), "x").tolist() == [[[9, 9, 9], [200, 0, 0], [0, 0, 200]]]
    assert decode_image(encode(palette, transparency=1), "x").tolist() == [[[9, 9, 9], [255] * 3, [0, 0, 200]]]


def test_cmyk() -> None:
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(decode_image(data, "x").astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(gradient()), "PNG", exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (decode_image(data, "x") == upright).all()


def test_damaged_exif_is_ignored() -> None:
    x_HWC = gradient()
    data = encode(Image.fromarray(x_HWC), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert (decode_image(data, "x") == x_HWC).all()


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(data, "x") == [255, 0, 0]).all()


def test_a_hint_decodes_smaller_but_large_enough() -> None:
    data = encode(Image.new("RGB", (640, 400), "green"), "JPEG")
    assert decode_image(data, "x").shape == (400, 640, 3)
    assert decode_image(data, "x", at_least=100).shape == (100, 160, 3)
    assert decode_image(data, "x", at_least=101).shape == (200, 320, 3)
    assert decode_image(data, "x", at_least=9999).shape == (400, 640, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_images_are_broken(kind: str, share: float) -> None:
    data = encode(Image.fromarray(gradient(40, 40)), kind)
    with pytest.raises(BrokenSample, match=r"^some/name: "):
        decode_image(data[: int(share * len(data))], "some/name")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b" <html>404</html>", "web page"), (b"\0" * 100, "not a JPEG"), (b"%!PS-Adobe-3", "not a JPEG")],
)
def test_what_is_no_image_is_broken(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenSample, match=reason):
        decode_image(data, "x.jpg")


@pytest.mark.parametrize(("width", "height"), [(8000, 5001), (12000, 12000), (60000, 60000)])
def test_giants_are_refused_by_their_header(width: int, height: int) -> None:
    # There are no pixels behind the header: decoding would complain of something else.
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    with pytest.raises(BrokenSample, match="more than 40 megapixels"):
        decode_image(data, "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_damaged_bytes_never_raise_anything_else(kind: str) -> None:
    data, rng = encode(Image.fromarray(gradient(16, 16)), kind), np.random.default_rng(1)
    for _ in range(150):
        damaged = np.frombuffer(data, dtype=np.uint8).copy()
        places = rng.integers(0, len(data), 4)
        damaged[places] = rng.integers(0, 256, 4)
        try:
            assert decode_image(damaged.tobytes(), "x").shape[2] == 3
        except (BrokenSample, UserWarning):  # pytest makes errors of Pillow's warnings
            continue


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data, "x") == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_other_formats(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = Image.fromarray(gradient(2, 3)).resize((48, 32), Image.Resampling.NEAREST)
    data = encode(blocks, kind, exif=exif, quality=100)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert upright.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    assert (decode_image(data, "x") == upright).all()


def png(colour_type: int, *values: int) -> bytes:
    """A PNG of one row of 16-bit values, which Pillow cannot write in colour."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", len(values) // channels, 1, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [*chunks, (b"IEND", b"")]
    )


@pytest.mark.parametrize(
    ("colour_type", "values", "pixels"),
    [
        (0, (255, 256, 65535), [[0] * 3, [1] * 3, [255] * 3]),
        (2, (0, 255, 256, 32768, 65279, 65535), [[0, 0, 1], [128, 254, 255]]),
        (4, (32768, 65535, 32768, 0), [[128] * 3, [255] * 3]),
        (6, (32768, 0, 0, 65535, 0, 0, 0, 0), [[128, 0, 0], [255] * 3]),
    ],
)
def test_16_bits_in_grey_and_colour_with_and_without_transparency(
    colour_type: int, values: tuple[int, ...], pixels: list[list[int]]
) -> None:
    assert decode_image(png(colour_type, *values), "x").tolist() == [pixels]


def test_grey_with_transparency_and_black_and_white() -> None:
    grey = Image.fromarray(np.array([[[10, 0], [10, 255]]], dtype=np.uint8), "LA")
    assert decode_image(encode(grey), "x").tolist() == [[[255] * 3, [10] * 3]]
    bits = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert decode_image(encode(bits), "x").tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "WEBP"])
def test_giants_of_other_formats_are_refused_by_their_header(kind: str) -> None:
    width, height = (16383, 16383) if kind == "WEBP" else (30000, 30000)
    data = bytearray(encode(Image.fromarray(gradient(16, 16)), kind, **({"lossless": True} if kind == "WEBP" else {})))
    match kind:
        case "JPEG":
            place = data.index(b"\xff\xc0") + 5
            data[place : place + 4] = struct.pack(">HH", height, width)
        case "BMP":
            data[18:26] = struct.pack("<ii", width, height)
        case "GIF":
            data[6:10] = struct.pack("<HH", width, height)
        case "WEBP":
            place = data.index(b"VP8L") + 9
            bits = int.from_bytes(data[place : place + 4], "little") >> 28 << 28
            data[place : place + 4] = (bits | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    with pytest.raises(BrokenSample, match="more than 40 megapixels"):
        decode_image(bytes(data), "x")


def heic(image: Image.Image, quality: int = 90) -> bytes:
    """The bytes of a HEIC file."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_photographs_of_telephones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = Image.fromarray(np.repeat(np.repeat(gradient(3, 4), 32, axis=0), 32, axis=1))
    data = heic(colours) if kind == "HEIC" else encode(colours, kind, quality=90)
    assert np.abs(decode_image(data, "x").astype(int) - np.asarray(colours)).mean() < 8
    for share in (0.02, 0.5):
        with pytest.raises(BrokenSample, match=r"^x: (damaged|not a JPEG)"):
            decode_image(data[: int(share * len(data))], "x")
    assert missing_decoders() == {}
    if kind == "HEIC":
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        assert missing_decoders() == dict.fromkeys(("heic", "heif"), "pip install pillow-heif")
        with pytest.raises(
            BrokenSample, match="a HEIC image, which needs a package of its own: pip install pillow-heif"
        ):
            decode_image(data, "x")


def test_photographs_above_the_limit_are_decoded_at_a_reduced_size() -> None:
    large = Image.new("RGB", (640, 400), "green")
    data = encode(large, "JPEG")
    assert decode_image(data, "x", most_pixels=256_000).shape == (400, 640, 3)
    assert decode_image(data, "x", most_pixels=255_999).shape == (200, 320, 3)
    assert decode_image(data, "x", most_pixels=40_000).shape == (100, 160, 3)
    assert decode_image(data, "x", at_least=50, most_pixels=100_000).shape == (50, 80, 3)
    assert decode_image(heic(large), "x", most_pixels=128_000).shape == (200, 320, 3)
    for giant, most, times in ((data, 31_999, "even 8 times "), (heic(large), 127_999, "even 2 times ")):
        with pytest.raises(BrokenSample, match=f"640 x 400: {times}more than .* megapixels; raise data.megapixels$"):
            decode_image(giant, "x", most_pixels=most)
    with pytest.raises(
        BrokenSample, match=r"more than 0\.2 megapixels; raise data.megapixels, or store it as JPEG, which"
    ):
        decode_image(encode(large), "x", most_pixels=200_000)
    for mended in (decode_image(encode(large), "x", most_pixels=256_000), decode_image(data, "x", most_pixels=200_000)):
        assert np.abs(mended[0, 0].astype(int) - [0, 128, 0]).max() <= 1


def test_a_jpeg_with_further_pictures_behind_it_is_a_jpeg() -> None:
    large, preview = Image.new("RGB", (640, 400), "green"), Image.new("RGB", (8, 8), "red")
    data = encode(large, "MPO", save_all=True, append_images=[preview])
    assert decode_image(data, "x", most_pixels=255_999).shape == (200, 320, 3)
    assert np.abs(decode_image(data, "x", at_least=50)[0, 0].astype(int) - [0, 128, 0]).max() <= 1
    with pytest.raises(BrokenSample, match=r"even 8 times more than 0\.03 megapixels; raise data.megapixels$"):
        decode_image(data, "x", most_pixels=30_000)


def test_a_photograph_of_200_megapixels_is_no_bomb() -> None:
    data = bytearray(encode(Image.new("RGB", (64, 64), "green"), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 12_000, 16_000)
    assert decode_image(bytes(data), "x").shape == (3_000, 4_000, 3)
