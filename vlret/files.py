"""How vlret reads and writes files: whole or not at all, and with one clear line when the input is bad."""

import errno
import glob
import gzip
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from vlret.console import say

KEPT = "kept"
WEEK = 7 * 24 * 3600
PARTIAL = re.compile(r"\..+\.(\d+)\.partial", re.DOTALL)  # `.NAME.HOST.PROCESS.partial`
MANY = 1000  # files are synced together with all else on this machine
ESCAPED = "backslashreplace"  # writes half a character, which UTF-8 cannot hold, as JSON escapes it


class InputError(ValueError):
    """Input that a person can mend; its text is one line: what is wrong, in which file and field, what to do."""

    def __str__(self) -> str:
        """One line, whatever the file said that it quotes."""
        return one_line(super().__str__())


def one_line(text: str) -> str:
    r"""A text as any terminal and log can show it: what cannot be printed as `\n`, `\x1b`, `\ud800`."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def told(error: Exception) -> str:
    """What an exception is and says: one line of at most 200 characters."""
    says = (isinstance(error, OSError) and error.strerror) or str(error)
    return one_line(" ".join(f"{type(error).__name__}: {says}".split()).removesuffix(":"))[:200]


@contextmanager
def whole(
    path: Path, ready: Callable[[], None] | None = None, kept: bool = False, lasts: bool = True
) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; rename it to `path` when the block ends well.

    What was written is on the disk by then, so that a machine which stops leaves no name of a file that is not whole.
    `ready` is called just before that, and keeps it from happening by an exception. On one what was written is removed
    and `path` stays as it was. The path beside carries this process's host and number, so that a job which outlived its
    killed workflow does not write into its successor's. What killed jobs left is removed: of `path`, what processes of
    this host that no longer run left; of any file of its folder, what nobody has written to for a week, since a job
    that lives writes more often than that, and one that does not finds its file gone and fails aloud. A folder that is
    `kept` gets its name as `publish` gives it. What need not last beyond a stop of the machine is written in a tenth of
    the time: nothing waits for the disk, and nothing is looked for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if lasts:
        _sweep(path)
    aside = path.parent / f".{path.name}.{platform.node()}.{os.getpid()}.partial"
    remove(aside)
    try:
        yield aside
        if lasts:
            sync(aside)
        if ready:
            ready()
        if kept:
            publish(aside, path)
        else:
            if path.is_dir():
                remove(path)
            os.replace(aside, path)
    finally:
        remove(aside)


def publish(folder: Path, path: Path) -> None:
    """Move a whole folder to `kept/` beside `path`, which becomes a link to it, and remove what was kept before.

    Snakemake deletes a job's outputs before the job runs: of these it deletes the link, and what took hours is there
    until its successor is whole.
    """
    home = path.parent / KEPT
    home.mkdir(exist_ok=True)
    real = home / f"{path.name}.{secrets.token_hex(4)}"
    os.replace(folder, real)
    folder.symlink_to(real.relative_to(path.parent))
    if path.is_dir() and not path.is_symlink():
        remove(path)
    os.replace(folder, path)
    for old in kept_of(path):
        if old != real:
            remove(old)


def kept_of(path: Path) -> list[Path]:
    """What `publish` kept under a name, the oldest first."""
    every = (path.parent / KEPT).glob(f"{glob.escape(path.name)}.????????")
    return sorted(every, key=lambda folder: folder.stat().st_mtime_ns)


def sync(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk."""
    inside = [path] if path.is_file() else path.rglob("*")
    files = [file for file in inside if file.is_file() and not file.is_symlink()]
    if len(files) > MANY:
        os.sync()
        return
    for file in files:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def _sweep(path: Path) -> None:
    """Remove what killed jobs left beside `path`, as `whole` says."""
    own = f".{path.name}.{platform.node()}."
    with os.scandir(path.parent) as entries:
        left = [Path(entry) for entry in entries if PARTIAL.fullmatch(entry.name)]
    for partial in left:
        if (partial.name.startswith(own) and not _runs(int(PARTIAL.fullmatch(partial.name)[1]))) or _stale(partial):
            with suppress(FileNotFoundError, PermissionError):  # another sweeps too, or it is another user's
                remove(partial)


def _runs(process: int) -> bool:
    """Whether a process of this host runs, whoever's it is."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _stale(partial: Path) -> bool:
    """Whether neither a file or folder nor anything in it was written to for `WEEK` seconds."""
    since = time.time() - WEEK
    try:
        return all(one.lstat().st_mtime < since for one in chain([partial], partial.rglob("*")))
    except FileNotFoundError:
        return False


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that the file system cannot hold is that of none."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        return False


def unfinished(folder: Path, settings: dict) -> None:
    """Make a folder for what a long job has done so far; what a job of other `settings` left there is removed."""
    path = folder / "settings.json"
    if not path.is_file() or read_json(path) != settings:
        if path.is_file():
            say(f"{folder}: done with other settings, so it is removed")
        remove(folder)
    write_json(path, settings)


def remove(path: Path) -> None:
    """Delete a file or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """Read one JSON object; an `InputError` names the file and line of a mistake."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({told(error)})") from error
    return read_record(text, str(path))


def write_json(path: Path, value: object, lasts: bool = True) -> None:
    """Write `value` as indented UTF-8 JSON, as `whole` does."""
    with whole(path, lasts=lasts) as aside:
        aside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors=ESCAPED)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield `(line number from 1, record)` for every line that is not blank; an `InputError` names a bad line."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield number, read_record(line, f"{path}, line {number}")


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, which is unpacked while it is read where its name ends in `.gz`."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    number = 0
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: broken after line {number} ({error}); fetch it again") from error


def read_record(line: bytes, place: str) -> dict:
    """The object that a line of JSON holds; an `InputError` begins with its place."""
    record = _parsed(line, place)
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected an object, found {type(record).__name__}")
    return record


def _parsed(text: bytes, place: str) -> object:
    try:
        return json.loads(text)
    except Exception as error:  # not only of its syntax: also of its depth, its numbers' length, its encoding
        raise InputError(f"{place}: not valid JSON: {told(error)}") from error


def write_jsonl(path: Path, records: list[dict]) -> None:
    """Write one JSON object a line."""
    with whole(path) as aside, open(aside, "w", encoding="utf-8", errors=ESCAPED) as lines:
        lines.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
