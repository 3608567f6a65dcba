"""Sound files damaged in many ways, all from one seed: bytes, words and structure."""

import copy
import json
import math
import random
import re
from collections.abc import Callable, Sequence

from hostile_images import DAMAGES

Damage = Callable[[random.Random, bytes], bytes]

MOST_BYTES = 2**18
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7")
WORDS = [
    *(b"", b"\x00", b"\r", b"\r\n", b"\n\n", b"\t", b"\x0b", b"\x1c", b"\x1b[31m", b"\x7f", b"\xff", b"\xc0\x80"),
    *(text.encode() for text in ("\ufeff", "\u2028", "\x85", "\xa0", "\u202e", "é", "e\u0301", "🏛", "٣", "𝟙", "İ")),
    *(b"\xed\xa0\x80", b'"\\ud800"', b'"\\u0000"', b'"\\udc00\\ud800"', b'"\\n"', b'"a\\nb"', b"\\", b"'", b'"'),
    *(b"null", b"true", b"NaN", b"-Infinity", b".nan", b".inf", b"~", b"[]", b"{}", b'""', b"[[]]", b'{"a":', b"]"),
    *b"-1 0 0.5 1e999 -0 1_000 0x1F 0o7 1:30 12e03 +1 .5 1. 1e-400 2147483648 9223372036854775808".split(),
    *(b"9" * 19, b"9" * 400, b"9" * 5000, b"1" + b"0" * 25, b"a" * 300, b"a" * 70_000),
    *(b"[" * 2000, b'{"a":' * 2000, b"- " * 2000, b"<g>" * 2000),
    *b".. / ../../etc/passwd /dev/zero %s {0} %n * ? [ # :// @ 2001-99-99 --- *a".split(),
    *(b"&a ", b"<<: ", b"!!binary ", b"!!python/object:os.system ", b"? ", b"|\n ", b"%YAML 9\n"),
]
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 2**31, 2**63, 2**64, 10**25, 10**400, 1e308, math.nan, math.inf),
    *("", " ", "a", "a b", "\n", "a\nb", "\x00", "\ud800", "a\udc00b", "\ufeff", "\u2028", "x" * 300, "x" * 70_000),
    *["..", ".", "/", "a/b", "../a", "/dev/zero", "1", "null", "é", "é", "🏛", "٣", "\x1b[31m", "%", "*", "[", "?*"],
    *([], {}, [[]], [None], ["a"], ["a", 1], [{}], {"": ""}, {"a": 1}, {"title": []}, [["a"]], list(range(1000))),
]
WORD = re.compile(rb'"[^"]*"|[\w.+-]+|\S')


def bent(draw: random.Random, content: bytes) -> bytes:
    """A word is another, odd one, or one stands between two."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        found = list(WORD.finditer(content[:20_000]))
        if not found:
            return draw.choice(WORDS)
        start, end = draw.choice(found).span()
        content = content[:start] + draw.choice(WORDS) + content[draw.choice((start, end, end)) :]
    return content


def reencoded(draw: random.Random, content: bytes) -> bytes:
    """The same text in another encoding, what that cannot hold left out."""
    return content.decode("utf-8", "ignore").encode(draw.choice(ENCODINGS), "ignore")


def shuffled(draw: random.Random, content: bytes) -> bytes:
    """Lines are left out, doubled, or stand elsewhere."""
    lines = content.splitlines(keepends=True) or [b"\n"]
    return b"".join(draw.choice(lines) for _ in range(draw.randrange(1, len(lines) + 3)))


def nested(draw: random.Random, content: bytes) -> bytes:
    """All of it stands deep inside."""
    depth = draw.choice((1, 30, 200, 500, 900, 990, 5000, 100_000))
    before, after = draw.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b"- ", b"")))
    return before * depth + content.strip() + after * depth


def changed(draw: random.Random, value: object) -> object:
    """A copy of a JSON value in which one to three values or keys are others, doubled or gone."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return draw.choice(VALUES)
        holder, key = draw.choice(places)
        odd, kind = copy.deepcopy(draw.choice(VALUES)), draw.random()
        if kind < 0.6:
            holder[key] = odd
        elif kind < 0.7:
            del holder[key]
        elif kind < 0.85 or isinstance(holder, list):
            holder[key] = copy.deepcopy(draw.choice(places)[0])
        else:
            holder[odd if isinstance(odd, str) else "odd"] = holder.pop(key)
    return value


def _places(value: object):
    for key, inside in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield value, key
        yield from _places(inside)


def restructured(draw: random.Random, content: bytes) -> bytes:
    """A JSON text, or one of its lines, with other values in it."""
    lines = content.splitlines(keepends=True)
    try:
        other = json.dumps(changed(draw, json.loads(content)), ensure_ascii=draw.random() < 0.5)
        return other.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # several lines, or no JSON any more
        if len(lines) < 2:
            return bent(draw, content)
        at = draw.randrange(len(lines))
        return b"".join([*lines[:at], restructured(draw, lines[at]).rstrip(b"\n") + b"\n", *lines[at + 1 :]])


def crossed(draw: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another."""
    other = draw.choice(seeds)
    return content[: draw.randrange(len(content) + 1)] + other[draw.randrange(len(other) + 1) :]


TEXT: tuple[Damage, ...] = (*DAMAGES, *[bent] * 6, reencoded, shuffled, nested)
JSON: tuple[Damage, ...] = (*TEXT, *[restructured] * 9)
BYTES: tuple[Damage, ...] = DAMAGES


def inputs(seeds: Sequence[bytes], damages: Sequence[Damage], draw: random.Random) -> Callable[[], bytes]:
    """What makes one input after the other: first a seed is drawn, then what happens to it."""

    def one() -> bytes:
        content = draw.choice(seeds)
        if draw.random() < 0.05:
            return crossed(draw, content, seeds)
        for _ in range(draw.choice((1, 1, 1, 2))):
            content = draw.choice(damages)(draw, content) if content else draw.choice(WORDS)
        return content[:MOST_BYTES]

    return one
