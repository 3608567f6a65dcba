"""Thousands of broken, odd and hostile image files from one seed."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

ENDINGS = ("jpg", "png", "gif", "webp", "tif", "svg", "bmp", "exe", "")


def files(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Write `count` files into `folder`, valid, damaged and malicious, and return their names."""
    draw, seeds = random.Random(seed), sound(seed)
    tricks, names = traps(), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        kind = draw.random()
        if number < len(seeds) + len(tricks):
            content = [*seeds, *tricks][number]
        elif kind < 0.03:
            content = draw.choice(tricks[:-2])  # the last two are large
        else:
            content = draw.choice(DAMAGES)(draw, draw.choice(seeds if kind < 0.95 else seeds[:-4]))
        names.append(f"{number:05}.{draw.choice(ENDINGS)}")
        (folder / names[-1]).write_bytes(content)
    return names


def sound(seed: int) -> list[bytes]:
    """A small image in each of many encodings; the last four are SVG."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)).resize((212, 148))
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha, grey = colours.convert("RGBA"), colours.convert("L")
    alpha.putalpha(grey)
    deep = Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16))
    real = Image.fromarray(rng.normal(size=(40, 50)).astype(np.float32))
    frames = {"save_all": True, "append_images": [colours.rotate(90), grey.convert("RGB")]}
    encoded = [
        *(encode(image, "JPEG") for image in (colours, grey, colours.convert("CMYK"))),
        *(encode(colours, "JPEG", **how) for how in ({"progressive": True}, {"exif": turned}, {"quality": 100})),
        *(encode(image, "PNG") for image in (colours, grey, alpha, colours.convert("P"), colours.convert("1"), deep)),
        encode(colours.convert("P"), "PNG", transparency=3),
        *(encode(image, "GIF", **frames) for image in (colours, grey)),
        *(encode(colours, "WEBP", **how) for how in ({}, {"lossless": True}, frames)),
        encode(alpha, "WEBP"),
        *(encode(colours, "TIFF", compression=how) for how in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *(encode(image, "TIFF") for image in (deep, real, alpha, colours.convert("CMYK"), colours.convert("LAB"))),
        encode(colours, "TIFF", **frames),
    ]
    return [
        *encoded,
        svg('<circle cx="5" cy="5" r="4" fill="red"/>'),
        svg('<linearGradient id="g"><stop stop-color="blue"/></linearGradient><path fill="url(#g)" d="M0 0L9 9H0z"/>'),
        svg('<text x="1" y="8">text</text><use href="#gone"/>'),
        b"\xef\xbb\xbf" + svg("<style>rect{fill:#0a0}</style><rect width='9' height='7'/>"),
    ]


def encode(image: Image.Image, kind: str, **how) -> bytes:
    """An image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def svg(body: str, size: str = 'width="10" height="10"') -> bytes:
    """An SVG of some elements."""
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {space} {size}>{body}</svg>".encode()


def flipped(draw: random.Random, content: bytes) -> bytes:
    """Random bits are flipped."""
    out = bytearray(content)
    for _ in range(draw.choice((1, 2, 8, 64, 512))):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def flipped_head(draw: random.Random, content: bytes) -> bytes:
    """Random bytes of the header are changed, where sizes and offsets are."""
    out = bytearray(content)
    for _ in range(draw.choice((1, 2, 4))):
        out[draw.randrange(min(len(out), 64))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return bytes(out)


def truncated(draw: random.Random, content: bytes) -> bytes:
    """The end is missing."""
    return content[: draw.randrange(len(content))]


def repeated(draw: random.Random, content: bytes) -> bytes:
    """A section is repeated many times."""
    start = draw.randrange(len(content))
    return (
        content[:start] + content[start : start + draw.randrange(1, 200)] * draw.choice((2, 10, 500)) + content[start:]
    )


def noisy(draw: random.Random, content: bytes) -> bytes:
    """The beginning of an image, then noise."""
    start = draw.randrange(min(len(content), 100))
    return content[:start] + draw.randbytes(draw.randrange(1, 3000))


def untouched(draw: random.Random, content: bytes) -> bytes:
    """Unchanged, under another name."""
    return content


DAMAGES = (flipped, flipped, flipped_head, flipped_head, truncated, truncated, repeated, noisy, untouched)


def traps() -> list[bytes]:
    """Malicious files; the last two take a while."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10**7))
    comments = PngImagePlugin.PngInfo()
    comments.add_text("bomb", "0" * 10**7, zip=True)
    secret = '<!DOCTYPE svg [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    entities = [
        f"<!DOCTYPE svg [{laughs}]>".encode() + svg("<text>&l9;</text>"),
        secret.encode() + svg("<text>&secret;</text>"),
    ]
    far = [
        svg('<image width="9" height="9" href="file:///etc/passwd"/>'),
        svg('<image width="9" height="9" xlink:href="http://localhost:9/x.png"/>'),
        svg('<style>@import url("http://localhost:9/x.css");</style><rect width="9" height="9"/>'),
        svg('<use href="#a"/><g id="a"><use href="#a"/></g>'),
        svg("<g>" * 100_000),
        svg("<rect width='9' height='9'/>", 'width="1e9" height="1e9"'),
        svg("<rect width='9' height='9'/>", 'width="0" height="-1"'),
    ]
    headers = [png(width, height, b"") for width, height in ((2**31 - 1, 2**31 - 1), (60_000, 60_000), (0, 5), (1, 9))]
    headers += [
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + bytes(9),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9),
        b"II*\x00\x08\x00\x00\x00\x02\x00"
        + struct.pack("<HHII", 256, 4, 1, 2**31)
        + struct.pack("<HHII", 257, 4, 1, 2**31),
        b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + b"\xff" * 6,
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 65535) + struct.pack("<HHII", 273, 4, 2**31, 8) * 50,
    ]
    plain = [b"", b"\x00", b"<", b"<html></html>", b"%PDF-1.7", b"MZ" + bytes(100), zipped.getvalue(), bytes(10_000)]
    large = [
        encode(Image.new("RGB", (20, 20)), "PNG", pnginfo=comments),
        png(9_900, 9_900, zlib.compress(bytes(9_900 * (9_900 * 3 + 1)), 9)),
    ]
    return entities + far + headers + plain + large


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG with this size in its header and valid checksums."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
