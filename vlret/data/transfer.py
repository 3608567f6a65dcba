"""Downloading a file over HTTP despite broken connections: what arrived is kept, and only the rest is requested."""

import errno
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from vlret.console import meter, say
from vlret.disk import FULL, UNWRITABLE
from vlret.files import InputError, atomic, error_summary, remove, sha256, write_json

CHUNK = 2**20
ATTEMPTS = 5  # in a row without receiving a byte
SYNCED = 2**26  # bytes after which the download is synced and its size recorded
PAUSE = 2.0  # seconds before the second attempt, doubled before each further one
RESERVED = "%!$&'()*+,/:;=?@[]~"  # characters not escaped in a URL
NOT_WRITTEN = (*FULL, *UNWRITABLE, errno.EFBIG, errno.ENAMETOOLONG)
SECONDS = 60  # without a byte, after which a connection counts as broken


class Unwritable(InputError):
    """A file cannot be written, which is the fault of neither the URL nor its server."""


def transfer(
    url: str,
    out: Path,
    size: int | None,
    digest: str | None,
    headers: Mapping[str, str],
    most: int | None = None,
    shown: bool = True,
) -> dict:
    """Fetch `url` to the file `out`, resuming an interrupted call; returns its `bytes` and `sha256`.

    A partial download is kept beside `out` with suffix `.partial`. The file with suffix `.etag` has the server's ETag,
    so that two versions are never joined, and that with `.synced` the number of bytes safely on the disk: a crash of
    the machine may leave zeros after these.

    Parameters
    ----------
    size
        Bytes, if known.
    digest
        SHA-256 in hexadecimal, if known.
    headers
        Sent to the host of `url`, but not to the targets of redirects.
    most
        Maximum bytes, if `size` is not known.
    shown
        Whether to show a progress bar.

    Raises
    ------
    InputError
        If the server cannot be reached or refuses, or the file has another size or checksum; the wrong file is removed.
        `Unwritable` if it cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: not a web address")
    address = _ascii(url)
    partial = partial_of(out)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        had = _cut(partial, digest)
        if size is not None and had >= size:
            break
        if failures:
            time.sleep(PAUSE * 2 ** (failures - 1))
        try:
            joinable = digest is not None or tag_of(partial).is_file()
            _receive(_request(address, headers, partial, had if joinable else 0), partial, size, most, shown)
            break
        except InputError:
            _forget(partial)
            raise
        except urllib.error.HTTPError as error:
            if error.code == 416 and had:  # nothing left to send, or the file has changed
                if size is None and _total(error.headers) == had:
                    break
                _forget(partial)
            elif error.code < 500 and error.code not in (408, 429):
                raise InputError(f"{url}: cannot be fetched: {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except InvalidURL as error:
            raise InputError(f"{url}: not a web address ({error_summary(error)})") from error
        except (OSError, HTTPException) as error:
            if error.args and error.args[0] in NOT_WRITTEN:
                raise Unwritable(f"{partial}: cannot be written ({error.args[1]})") from error
            reason = " ".join(str(error).split()) or type(error).__name__
        came = partial.stat().st_size if partial.is_file() else 0
        failures = 1 if came > had else failures + 1
        if shown:
            say(f"{out.name}: interrupted at {came} bytes ({reason})")
    else:
        raise InputError(f"{url}: cannot be fetched: {reason}; run this again to resume")
    return _finish(partial, out, size, digest)


def _ascii(url: str) -> str:
    """A URL for requests: non-ASCII characters and white space are escaped, hosts encoded by IDNA."""
    try:
        parts = urlsplit(url)
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
        path, query = (quote(part, safe=RESERVED) for part in (parts.path, parts.query))
        return urlunsplit((parts.scheme, host, path, query, ""))
    except ValueError as error:
        raise InputError(f"{url}: not a web address ({error_summary(error)})") from error


def partial_of(out: Path) -> Path:
    """The path of a partial download."""
    return out.with_name(f"{out.name}.partial")


def verify(path: Path, size: int | None, digest: str | None) -> dict:
    """A file's `bytes` and `sha256`; raises `InputError` if they are not as expected."""
    found = path.stat().st_size
    if size is not None and found != size:
        raise InputError(f"{path}: {found} bytes, expected {size}; it is broken or another version, fetch it again")
    own = sha256(path)
    if digest is not None and own != digest:
        raise InputError(f"{path}: its SHA-256 is {own}, expected {digest}; fetch it again")
    return {"bytes": found, "sha256": own}


def tag_of(partial: Path) -> Path:
    """The path of the ETag of a partial download."""
    return partial.with_suffix(".etag")


def synced_of(partial: Path) -> Path:
    """The path of the number of bytes safely on the disk."""
    return partial.with_suffix(".synced")


def _request(url: str, headers: Mapping[str, str], partial: Path, had: int) -> urllib.request.Request:
    """Request a file, or what follows its first `had` bytes if it has not changed."""
    request = urllib.request.Request(url)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    if had:
        request.add_header("Range", f"bytes={had}-")
        if tag_of(partial).is_file():
            request.add_header("If-Range", tag_of(partial).read_text(encoding="utf-8"))
    return request


def _receive(request: urllib.request.Request, partial: Path, size: int | None, most: int | None, shown: bool) -> None:
    """Append the missing bytes, or start over if the server cannot resume; raises OSError if the connection breaks."""
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        continues = answer.status == 206
        had = partial.stat().st_size if continues else 0
        expected = answer.headers.get("Content-Length")
        if (etag := answer.headers.get("ETag")) and not etag.startswith("W/"):
            with atomic(tag_of(partial)) as aside:
                aside.write_text(etag, encoding="utf-8")
        came, label = 0, partial.stem if shown else None
        if not continues:
            remove(synced_of(partial))
        with _synced(partial, continues) as sink, meter(size, had, label) as bar:
            while chunk := answer.read(CHUNK):
                sink.write(chunk)
                came += len(chunk)
                bar.update(len(chunk))
                if came // SYNCED > (came - len(chunk)) // SYNCED:
                    _sync(sink, partial)
                if most is not None and had + came > most:
                    raise InputError(f"{request.full_url}: more than {most} bytes; not fetched")
        if expected is not None and came < int(expected):
            raise ConnectionError(f"received {came} of {expected} bytes")


@contextmanager
def _synced(partial: Path, continues: bool) -> Iterator[BinaryIO]:
    """Open a file to append or overwrite; sync it and record its size when the block ends, even by an exception."""
    with open(partial, "ab" if continues else "wb") as sink:
        try:
            yield sink
        finally:
            _sync(sink, partial)


def _sync(sink: BinaryIO, partial: Path) -> None:
    """Record the number of bytes received, once they are on the disk."""
    sink.flush()
    os.fsync(sink.fileno())
    write_json(synced_of(partial), sink.tell())


def _cut(partial: Path, digest: str | None) -> int:
    """Truncate a partial download to its synced bytes (unknown: all, if a digest is given, else none); their number."""
    came = partial.stat().st_size if partial.is_file() else 0
    noted = synced_of(partial)
    kept = min(came, int(noted.read_text(encoding="utf-8")) if noted.is_file() else came if digest else 0)
    if kept < came:
        os.truncate(partial, kept)
    return kept


def _total(headers: Mapping[str, str]) -> int | None:
    """The size of the whole file, from `Content-Range: bytes */1234`."""
    total = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _finish(partial: Path, out: Path, size: int | None, digest: str | None) -> dict:
    try:
        found = verify(partial, size, digest)
    except InputError:
        _forget(partial)
        raise
    partial.replace(out)
    _forget(partial)
    return found


def _forget(partial: Path) -> None:
    for path in (partial, tag_of(partial), synced_of(partial)):
        remove(path)
