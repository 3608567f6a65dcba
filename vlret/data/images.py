"""The only place that opens image files: any common format in, an upright RGB image over white out.

Image files come from the open web. The header is checked before any pixel is decoded, a truncated file is an error
instead of a half-grey image, and SVG is drawn by a child process with limited memory and time and without references to
other files.
"""

import io
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from vlret.data.own import known_as
from vlret.files import InputError, error_summary, one_line

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF")
SIGNS = (  # the first bytes of each format
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF.{4}WEBP"),
    ("TIFF", rb"II[*+]\x00|MM\x00[*+]"),
)
MOST_PIXELS = 100_000_000
FEWEST_PIXELS_A_SIDE = 2
MOST_SVG_BYTES = 32 * 2**20
MOST_SVG_DEPTH = 200
SVG_SECONDS = 20
SVG_MEMORY = 2 * 2**30

# EXIF 2.3, tag 0x0112: how to turn the stored image upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Without system fonts the pixels are the same on every machine.
DRAW = """
import resource, sys, resvg_py
width, seconds, memory = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
svg = sys.stdin.buffer.read().decode()
try:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=width, height=width, skip_system_fonts=True)
except ValueError as error:
    sys.exit(str(error))
sys.stdout.buffer.write(png)
"""


class ImageError(InputError):
    """A file that cannot be read as an image: its `path`, and the `reason`."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, one_line(" ".join(reason.split()))

    def __str__(self) -> str:
        """File and reason, one line."""
        return one_line(f"{self.path}: {self.reason}")


def open_image(path: Path, svg_width: int = 512) -> Image.Image:
    """Read a JPEG, PNG, GIF (first frame), WebP, TIFF or SVG file as an upright RGB image over white.

    The content determines the format, not the name. SVG is drawn to fit a square of `svg_width` pixels a side. Colour
    profiles are ignored. Raises `ImageError` (one line: file and reason) if the file is missing, truncated, not an
    image, less than 2 pixels wide or high, or larger than 100 megapixels (by its header), whatever the libraries raise,
    except `MemoryError`.
    """
    with _of_file(Path(path)) as file:
        return over_white(render_svg(file.read_bytes(), svg_width) if _looks_like_svg(file) else _decode(file))


def check_image(path: Path) -> None:
    """Raise the `ImageError` of `open_image` as far as the header shows it; decodes and draws no pixel."""
    with _of_file(Path(path)) as file:
        if _looks_like_svg(file):
            _without_references(file.read_bytes())
        else:
            _decode(file, pixels=False)


@contextmanager
def _of_file(path: Path) -> Iterator[Path]:
    """Yield an existing file; turns exceptions of the block into an `ImageError` with the user's name of the file."""
    try:
        if not path.is_file():
            raise ImageError(path, "not a file" if path.exists() else "no such file")
        yield path
    except MemoryError:
        raise
    except ImageError as error:
        raise ImageError(known_as(path), error.reason) from None
    except Exception as error:
        raise ImageError(known_as(path), f"cannot be read ({error_summary(error)})") from error


def render_svg(svg: bytes, width: int) -> Image.Image:
    """Draw an SVG as large as fits a square of `width` pixels a side; RGBA.

    References to anything outside the document are dropped, text is not drawn (there are no fonts), and drawing is
    limited to 20 s and 2 GiB. Raises `ImageError` with `SVG` as the path.
    """
    if len(svg) > MOST_SVG_BYTES:
        raise ImageError("SVG", f"{len(svg)} bytes of SVG, at most {MOST_SVG_BYTES} are read; simplify it")
    command = [sys.executable, "-P", "-c", DRAW, str(width), str(SVG_SECONDS), str(SVG_MEMORY)]
    try:
        done = subprocess.run(command, input=_without_references(svg), capture_output=True, timeout=2 * SVG_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ImageError("SVG", f"cannot be drawn within {SVG_SECONDS} s; simplify it") from error
    if done.returncode < 0:
        limits = f"{SVG_SECONDS} s and {SVG_MEMORY // 2**30} GiB"
        raise ImageError("SVG", f"cannot be drawn within {limits}; simplify it")
    if done.returncode > 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ImageError("SVG", f"not a valid SVG ({lines[-1] if lines else 'no reason given'})")
    return _decode(io.BytesIO(done.stdout)).convert("RGBA")


def over_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB; transparency becomes white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def content_kind(start: bytes) -> str | None:
    """The format of a file by its first bytes: one of `FORMATS`, `SVG`, or None for anything else, even web pages."""
    for kind, sign in SIGNS:
        if re.match(sign, start, re.DOTALL):
            return kind
    return "SVG" if _root_element(_as_utf8(start)) == b"svg" else None


def _root_element(xml: bytes) -> bytes:
    """The name, without namespace, of the root element of XML; empty if it is not among the bytes."""
    at, skipped = 0, ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!DOCTYPE", b">"))
    while True:
        at += len(xml[at:]) - len(xml[at:].lstrip())
        end = next((end for begin, end in skipped if xml.startswith(begin, at)), None)
        if end is None:
            break
        inside = xml.find(b"[", at, xml.find(b">", at)) if end == b">" else -1
        at = xml.find(end, xml.find(b"]", inside) if inside >= 0 else at)
        if at < 0:
            return b""
        at += len(end)
    name = re.match(rb"<(?:[\w.-]+:)?([\w.-]+)[\s/>]", xml[at : at + 200])
    return name[1] if name else b""


def _decode(source: Path | io.BytesIO, pixels: bool = True) -> Image.Image:
    """Decode an upright image; without `pixels`, only its header."""
    too_large = f"more than {MOST_PIXELS // 10**6} megapixels; scale it down"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings are checked below or harmless
            with Image.open(source, formats=FORMATS) as image:
                _check_size(image, too_large)
                if not pixels:
                    return image
                image.load()
                _check_size(image, too_large)
                return _upright(image)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("image", too_large) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError("image", f"not an image of a known format ({', '.join(FORMATS)}, SVG)") from error
    except Exception as error:  # Pillow's decoders raise nearly anything for broken files
        raise ImageError("image", f"broken or truncated ({error_summary(error)})") from error


def _check_size(image: Image.Image, too_large: str) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError("image", f"{width} × {height} pixels, {too_large}")
    if min(width, height) < FEWEST_PIXELS_A_SIDE:
        raise ImageError("image", f"{width} × {height} pixels, too small to show anything; give another image")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception:  # the pixels are usable without metadata
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey by its full range, 32-bit grey (which has no standard range) from its minimum to maximum."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    grey = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _looks_like_svg(path: Path) -> bool:
    with open(path, "rb") as stream:
        return _as_utf8(stream.read(512)).lstrip().startswith(b"<")


def _as_utf8(start: bytes) -> bytes:
    """The beginning of a text as UTF-8, without its byte order mark."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return start.decode("utf-16", errors="ignore").encode()
    return start.removeprefix(b"\xef\xbb\xbf")


def _without_references(svg: bytes) -> bytes:
    """The document without external references; raises `ImageError` if it is invalid or nested too deep."""
    depth = 0
    root = None
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(svg), events=("start", "end")):
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            if depth > MOST_SVG_DEPTH:
                raise ImageError("SVG", f"elements nested deeper than {MOST_SVG_DEPTH}; simplify it")
            if event == "end":
                for name in [name for name in element.attrib if name.rpartition("}")[2] == "href"]:
                    if not re.match(r"\s*(#|data:image/(png|jpe?g|gif|webp)[;,])", element.attrib[name], re.IGNORECASE):
                        del element.attrib[name]
    except ImageError:
        raise
    except Exception as error:  # besides syntax: an unknown encoding
        raise ImageError("SVG", f"neither a known image format nor valid SVG ({error_summary(error)})") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise ImageError("SVG", f"XML, but its root is <{root.tag.rpartition('}')[2]}>, not <svg>")
    return ElementTree.tostring(root, encoding="utf-8")
