"""One file over HTTP, however often the connection breaks: what came is kept, and the rest is asked for."""

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from vlret.console import meter, say
from vlret.files import InputError, remove, sha256

CHUNK = 2**20
ATTEMPTS = 5  # in a row of which none brings a byte
PAUSE = 2.0  # seconds before the second attempt, twice as many before each further one
SECONDS = 60  # without a byte are a broken connection


def transfer(url: str, out: Path, size: int | None, digest: str | None, headers: Mapping[str, str]) -> dict:
    """Fetch `url` to the file `out`, going on where an earlier call was broken off; its `bytes` and `sha256`.

    What has come lies beside `out` with `.partial` at its end, and what the server said of it with `.etag`, so that two
    versions of a file are never joined.

    Parameters
    ----------
    size
        Bytes, where known.
    digest
        SHA-256 in hexadecimal, where known.
    headers
        Sent to the host of `url`, and not where it redirects to.

    Raises
    ------
    InputError
        If the server cannot be reached or refuses, or what came has another size or checksum; a file whose bytes are
        wrong is removed.
    """
    partial = partial_of(out)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        had = partial.stat().st_size if partial.is_file() else 0
        if size is not None and had >= size:
            break
        if failures:
            time.sleep(PAUSE * 2 ** (failures - 1))
        try:
            _receive(url, partial, size, headers)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416 and had:  # nothing is left to send, or the file is another one now
                if size is None and _total(error.headers) == had:
                    break
                remove(partial)
            elif error.code < 500 and error.code not in (408, 429):
                raise InputError(f"{url}: cannot be fetched: {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        came = partial.stat().st_size if partial.is_file() else 0
        failures = 1 if came > had else failures + 1
        say(f"{out.name}: broken off at {came} bytes ({reason})")
    else:
        raise InputError(f"{url}: cannot be fetched: {reason}; run this again to go on where it stopped")
    return _finish(partial, out, size, digest)


def partial_of(out: Path) -> Path:
    """Where a file is that has come in part."""
    return out.with_name(f"{out.name}.partial")


def verify(path: Path, size: int | None, digest: str | None) -> dict:
    """A file's `bytes` and `sha256`; raises `InputError` where they are not the expected ones."""
    found = path.stat().st_size
    if size is not None and found != size:
        raise InputError(f"{path}: {found} bytes, expected {size}; it is broken or another version, fetch it again")
    own = sha256(path)
    if digest is not None and own != digest:
        raise InputError(f"{path}: its SHA-256 is {own}, expected {digest}; fetch it again")
    return {"bytes": found, "sha256": own}


def _receive(url: str, partial: Path, size: int | None, headers: Mapping[str, str]) -> None:
    """Append what is missing, or begin anew where the server does not continue; OSError where it breaks off."""
    tag = partial.with_suffix(".etag")
    had = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    if had:
        request.add_header("Range", f"bytes={had}-")
        if tag.is_file():
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        continues = answer.status == 206
        expected = answer.headers.get("Content-Length")
        if (etag := answer.headers.get("ETag")) and not etag.startswith("W/"):
            tag.write_text(etag, encoding="utf-8")
        came = 0
        with (
            open(partial, "ab" if continues else "wb") as sink,
            meter(size, had if continues else 0, partial.stem) as bar,
        ):
            while chunk := answer.read(CHUNK):
                sink.write(chunk)
                came += len(chunk)
                bar.update(len(chunk))
        if expected is not None and came < int(expected):
            raise ConnectionError(f"{came} of {expected} bytes came")


def _total(headers: Mapping[str, str]) -> int | None:
    """The size of the whole file, of `Content-Range: bytes */1234`."""
    total = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _finish(partial: Path, out: Path, size: int | None, digest: str | None) -> dict:
    try:
        found = verify(partial, size, digest)
    except InputError:
        remove(partial)
        raise
    finally:
        remove(partial.with_suffix(".etag"))
    partial.replace(out)
    return found
