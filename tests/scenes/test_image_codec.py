"""Images: truncated ones are rejected, and those of a false size are not decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from wnv.scenes.image_codec import decode_image, encode_image, image_header
from wnv.scenes.schema import SceneError


@pytest.fixture
def image() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=-1).astype(np.uint8)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_declaring(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_png_is_lossless_and_jpeg_is_close(image: np.ndarray) -> None:
    png = encode_image(image, image_format="png")
    jpeg = encode_image(image, image_format="jpeg", quality=95)
    assert image_header(png, where="x") == ("png", 64, 48)
    assert image_header(jpeg, where="x") == ("jpeg", 64, 48)
    np.testing.assert_array_equal(decode_image(png, width=64, height=48, where="x"), image)
    assert np.abs(decode_image(jpeg, width=64, height=48, where="x").astype(int) - image).mean() < 2


def test_grey_becomes_three_channels(image: np.ndarray) -> None:
    data = saved(Image.fromarray(image[..., 0]), "JPEG")
    pixels = decode_image(data, width=64, height=48, where="x")
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("image_format", ["jpeg", "png"])
@pytest.mark.parametrize("kept", [0.98, 0.3])
def test_truncated_images_are_rejected(image: np.ndarray, image_format: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, image.shape, dtype=np.uint8)
    data = encode_image(noise, image_format=image_format)
    with pytest.raises(SceneError, match=r"scene 'a', frame 3: .*(truncated|not a readable)"):
        decode_image(data[: int(len(data) * kept)], width=64, height=48, where="scene 'a', frame 3")


@pytest.mark.parametrize("data", [b"", b"GIF89a....", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_other_bytes_are_rejected(data: bytes) -> None:
    with pytest.raises(SceneError, match=r"frame 1: .*JPEG or PNG"):
        image_header(data, where="frame 1")


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparent_and_palette_images_are_rejected(image: np.ndarray, mode: str) -> None:
    data = saved(Image.fromarray(image).convert(mode), "PNG")
    with pytest.raises(SceneError, match=f"mode {mode}"):
        decode_image(data, width=64, height=48, where="x")


@pytest.mark.parametrize(("width", "height"), [(10_000, 9_500), (60_000, 60_000), (9_000, 8_000)])
def test_a_decompression_bomb_is_not_decoded(width: int, height: int) -> None:
    with pytest.raises(SceneError, match=r"frame 0: .*67108864"):
        decode_image(png_declaring(width, height), width=width, height=height, where="frame 0")
    with pytest.raises(SceneError, match=r"64 x 48 .*8000 x 8000"):
        decode_image(png_declaring(8000, 8000), width=64, height=48, where="x")


def test_a_crop_equals_the_part_of_the_image_and_is_writable(image: np.ndarray) -> None:
    for image_format in ("jpeg", "png"):
        data = encode_image(image, image_format=image_format)
        whole = decode_image(data, width=64, height=48, where="here")
        part = decode_image(data, width=64, height=48, where="here", box=(3, 2, 20, 15))
        np.testing.assert_array_equal(part, whole[2:15, 3:20])
        assert part.flags.writeable


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpegs_decode_as_pillow_decodes_them(subsampling: int) -> None:
    random = np.random.default_rng(1)
    image = np.kron(random.integers(0, 256, (9, 13, 3), dtype=np.uint8), np.ones((7, 5, 1), dtype=np.uint8))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated, which is ignored
    Image.fromarray(image).save(buffer, "JPEG", quality=80, subsampling=subsampling, exif=exif)
    decoded = decode_image(buffer.getvalue(), width=65, height=63, where="here")
    expected = np.asarray(Image.open(buffer))
    assert np.abs(decoded.astype(int) - expected).max() <= 1
