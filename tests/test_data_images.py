"""Images of every format look the same, and hostile files are refused with one line that names them."""

import base64
import io
import pickle
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hostile_images import encode
from PIL import Image, TiffImagePlugin

from vlret.data.images import (
    FORMATS,
    ORIENTATION,
    UPRIGHT,
    ImageError,
    content_kind,
    open_image,
    over_white,
    render_svg,
)

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size}>{body}</svg>'
RED, WHITE = (255, 0, 0), (255, 255, 255)


def svg(body: str, size: str = 'width="60" height="30"') -> bytes:
    return SVG.format(size=size, body=body).encode()


def quarters(width=40, height=24) -> Image.Image:
    """An image that looks different however it is turned."""
    values = np.zeros((height, width, 3), np.uint8)
    values[: height // 2, : width // 2] = RED
    values[height // 2 :, : width // 2] = (0, 255, 0)
    values[: height // 2, width // 2 :] = (0, 0, 255)
    return Image.fromarray(values)


def photo(width=200, height=160) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SAVED = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}


def difference(a: Image.Image, b: Image.Image) -> float:
    return np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()


@pytest.mark.parametrize("fmt", ["PNG", "GIF", "WEBP", "TIFF", "JPEG"])
def test_every_format_gives_the_same_rgb_image(tmp_path, fmt):
    quarters().save(tmp_path / "a", fmt, **SAVED.get(fmt, {}))
    image = open_image(tmp_path / "a")
    assert image.mode == "RGB"
    assert image.size == (40, 24)
    assert difference(image, quarters()) < (4 if fmt == "JPEG" else 1e-9)


def test_content_not_the_name_decides(tmp_path):
    quarters().save(tmp_path / "a.jpg", "PNG")
    assert difference(open_image(tmp_path / "a.jpg"), quarters()) == 0


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", sorted(UPRIGHT))
def test_exif_orientation_is_undone_once(tmp_path, fmt, orientation):
    inverse = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    stored = quarters().transpose(inverse.get(UPRIGHT[orientation], UPRIGHT[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if fmt == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[ORIENTATION] = orientation
        stored.save(tmp_path / "a", fmt, tiffinfo=tags)
    else:
        stored.save(tmp_path / "a", fmt, exif=exif, **SAVED.get(fmt, {}))
    image = open_image(tmp_path / "a")
    assert image.size == (40, 24)
    assert difference(image, quarters()) < (4 if fmt == "JPEG" else 1e-9)


def test_broken_exif_does_not_spoil_the_pixels(tmp_path):
    quarters().save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + b"\xff" * 40)
    assert difference(open_image(tmp_path / "a.png"), quarters()) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    if mode == "P":
        image = image.quantize(4)
    elif mode == "LA":
        image = image.convert("LA")
    image.save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert opened.getpixel((1, 1)) == WHITE
    assert opened.getpixel((6, 1)) == (RED if mode != "LA" else (76, 76, 76))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_becomes_white(tmp_path, mode):
    black = {"L": 0, "RGB": (0, 0, 0)}[mode]
    Image.new(mode, (4, 4), black).save(tmp_path / "a.png", transparency=black)
    assert open_image(tmp_path / "a.png").getpixel((2, 2)) == WHITE


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    grey = np.asarray(open_image(tmp_path / name))
    assert grey.shape == (64, 64, 3)
    np.testing.assert_array_equal(grey[..., 1], np.rint(values / 257))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_grey_spans_black_to_white(tmp_path, kind):
    Image.fromarray(np.array([[-7, 0], [0, 14]], kind)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 0], [[0, 85], [85, 255]])


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    assert difference(open_image(tmp_path / "a.jpg"), Image.new("RGB", (16, 16), RED)) < 3


def test_the_first_frame_of_an_animation(tmp_path):
    quarters().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (40, 24))])
    assert difference(open_image(tmp_path / "a.gif"), quarters()) == 0


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_file_is_an_error_not_grey_pixels(tmp_path, fmt, share):
    whole = io.BytesIO()
    photo().save(whole, fmt)
    (tmp_path / "cut").write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    with pytest.raises(ImageError, match="cut: ") as caught:
        open_image(tmp_path / "cut")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(20000, 10000), (12000, 10000), (100_000, 100_000), (2**31 - 1, 1)])
def test_a_huge_image_is_refused_from_its_header(tmp_path, width, height):
    (tmp_path / "huge.png").write_bytes(png(width, height))
    start = time.perf_counter()
    with pytest.raises(ImageError, match=r"huge\.png: .*megapixels"):
        open_image(tmp_path / "huge.png")
    assert time.perf_counter() - start < 0.5


def test_a_real_200_megapixel_image_is_refused(tmp_path):
    Image.new("1", (20000, 10000)).save(tmp_path / "huge.png")
    with pytest.raises(ImageError, match="megapixels"):
        open_image(tmp_path / "huge.png")


def test_compressed_text_bomb_is_refused(tmp_path):
    body = b"bomb\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    text = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = png(4, 4, bytes(4 * 13))
    (tmp_path / "bomb.png").write_bytes(data[:33] + text + data[33:])
    with pytest.raises(ImageError, match=r"bomb\.png"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_an_image_without_extent_is_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "dot.png")
    with pytest.raises(ImageError, match=r"dot\.png: .*too small"):
        open_image(tmp_path / "dot.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "small.png")
    assert open_image(tmp_path / "small.png").size == (2, 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"just words", "not an image"),
        (b"PK\x03\x04" + bytes(100), "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "truncated|not an image"),
        (b"<html><body>404</body></html>", "root is <html>"),
        (b"<svg", "nor valid SVG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"/>', "not a valid SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        open_image(tmp_path / "a.jpg")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path)


def test_the_error_survives_the_way_home_from_a_worker(tmp_path):
    error = pickle.loads(pickle.dumps(ImageError("a/b.png", "two\nlines")))  # noqa: S301
    assert (error.path, error.reason, str(error)) == ("a/b.png", "two lines", "a/b.png: two lines")


def test_bit_flips_never_crash(tmp_path):
    rng = np.random.default_rng(0)
    for fmt in ("JPEG", "PNG", "GIF", "WEBP", "TIFF"):
        whole = io.BytesIO()
        photo(64, 48).save(whole, fmt)
        for _ in range(40):
            data = bytearray(whole.getvalue())
            for place in rng.integers(0, len(data), 5):
                data[place] ^= 1 << rng.integers(8)
            (tmp_path / "flipped").write_bytes(data)
            with suppress(ImageError):
                assert open_image(tmp_path / "flipped").mode == "RGB"


def test_svg_is_drawn_over_white_and_to_the_width(tmp_path):
    (tmp_path / "flag.svg").write_bytes(
        b"\xef\xbb\xbf<?xml version='1.0'?>\n" + svg('<path d="M0 0h30v30H0z" fill="red"/>')
    )
    image = open_image(tmp_path / "flag.svg", svg_width=200)
    assert image.size == (200, 100)
    assert image.getpixel((50, 50)) == RED
    assert image.getpixel((150, 50)) == WHITE


def test_render_svg_keeps_transparency_and_internal_references():
    body = '<defs><rect id="r" width="30" height="30" fill="red"/></defs><use xlink:href="#r"/>'
    image = render_svg(svg(body), 60)
    assert (image.mode, image.size) == ("RGBA", (60, 30))
    assert image.getpixel((10, 10)) == (*RED, 255)
    assert image.getpixel((50, 10)) == (0, 0, 0, 0)


def test_internal_entities_as_drawing_programs_write_them():
    document = b'<!DOCTYPE svg [<!ENTITY colour "#ff0000">]>' + svg('<rect width="60" height="30" fill="&colour;"/>')
    assert render_svg(document, 60).getpixel((10, 10)) == (*RED, 255)


@pytest.mark.parametrize("attribute", ["href", "xlink:href"])
@pytest.mark.parametrize("element", ["image", "use", "feImage"])
def test_an_svg_sees_no_file(tmp_path, monkeypatch, attribute, element):
    Image.new("RGB", (60, 30), RED).save(tmp_path / "secret.png")
    monkeypatch.chdir(tmp_path)
    for target in ("secret.png", str(tmp_path / "secret.png"), (tmp_path / "secret.png").as_uri()):
        drawn = f'<{element} width="60" height="30" {attribute}="{target}"/>'
        if element == "feImage":
            drawn = f'<filter id="f">{drawn}</filter><rect width="60" height="30" fill="none" filter="url(#f)"/>'
        assert render_svg(svg(drawn), 60).getextrema()[3] == (0, 0)
    nested = base64.b64encode(svg(f'<image width="60" height="30" {attribute}="{tmp_path}/secret.png"/>')).decode()
    drawn = f'<image width="60" height="30" {attribute}="data:image/svg+xml;base64,{nested}"/>'
    assert render_svg(svg(drawn), 60).getextrema()[3] == (0, 0)


def test_an_image_inside_the_svg_is_drawn():
    inner = io.BytesIO()
    Image.new("RGB", (60, 30), RED).save(inner, "PNG")
    data = "data:image/png;base64," + base64.b64encode(inner.getvalue()).decode()
    assert render_svg(svg(f'<image width="60" height="30" xlink:href="{data}"/>'), 60).getpixel((9, 9)) == (*RED, 255)


def test_external_entities_are_refused():
    document = b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + svg("<desc>&x;</desc>")
    with pytest.raises(ImageError, match="SVG"):
        render_svg(document, 60)


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    return f'<!DOCTYPE svg [<!ENTITY e0 "ha">{entities}]>'.encode() + svg("<desc>&e9;</desc>")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (laughs(), "SVG"),
        (svg("<g>" * 100_000 + "</g>" * 100_000), "nested deeper"),
        (svg(" " * 33 * 2**20), "bytes of SVG"),
    ],
    ids=["entities", "depth", "bytes"],
)
def test_svg_bombs_are_refused_at_once(document, reason):
    start = time.perf_counter()
    with pytest.raises(ImageError, match=reason):
        render_svg(document, 60)
    assert time.perf_counter() - start < 2


def test_svg_of_absurd_size_is_fitted():
    body = '<rect width="100%" height="100%" fill="red"/>'
    assert render_svg(svg(body, 'width="20000000" height="10000000"'), 60).size == (60, 30)
    assert render_svg(svg(body, 'width="2" height="40"'), 60).size == (3, 60)
    with pytest.raises(ImageError, match="too small"):
        render_svg(svg(body, 'width="2" height="1000000"'), 60)


def test_an_svg_that_takes_too_long_or_too_much_is_stopped(monkeypatch):
    monkeypatch.setattr("vlret.data.images.SVG_SECONDS", 1)
    blur = '<filter id="f" x="-99" y="-99" width="999" height="999"><feTurbulence numOctaves="99999"/></filter>'
    with pytest.raises(ImageError, match="cannot be drawn within 1 s"):
        render_svg(svg(blur + '<rect width="60" height="30" filter="url(#f)"/>'), 512)


def test_over_white_leaves_rgb_alone():
    assert over_white(quarters()).tobytes() == quarters().tobytes()


DRAWING = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        *((encode(Image.new("RGB", (3, 3)), kind), kind) for kind in FORMATS),
        (DRAWING, "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><!-- <html> --> <!DOCTYPE svg [<!ENTITY a 'b>'>]>\n" + DRAWING, "SVG"),
        (b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'svg11.dtd'><svg:svg xmlns:svg='x'>", "SVG"),
        (DRAWING.decode().encode("utf-16"), "SVG"),
        (b"<!doctype html><html><svg></svg>", None),
        (b"<html><body>404</body></html>", None),
        (b"<!-- <svg> -->" * 2000, None),
        (b"<!-- never closed <svg>", None),
        (b"%PDF-1.7", None),
        (b"RIFF....WAVE", None),
        (b"", None),
    ],
)
def test_what_a_file_is_is_told_by_its_bytes(start, kind):
    assert content_kind(start) == kind
