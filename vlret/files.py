"""Atomic writes, and reads that report bad input in one line."""

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from vlret.console import say

KEPT = "kept"
WEEK = 7 * 24 * 3600
PARTIAL = re.compile(r"\..+\.(\d+)\.partial", re.DOTALL)  # `.NAME.HOST.PROCESS.partial`
MANY = 1000  # above this many files, one os.sync() replaces an fsync of each
ESCAPED = "backslashreplace"  # writes a lone surrogate, which UTF-8 cannot encode, as a JSON escape


class InputError(ValueError):
    """Input that the user can fix; the message is one line: what is wrong, in which file and field, what to do."""

    def __str__(self) -> str:
        """The message on one line, whatever it quotes."""
        return one_line(super().__str__())


def one_line(text: str) -> str:
    r"""Escape unprintable characters (`\n`, `\x1b`, `\ud800`), so that any terminal or log can show the text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def error_summary(error: Exception) -> str:
    """Type and message of an exception, on one line of at most 200 characters."""
    message = (isinstance(error, OSError) and error.strerror) or str(error)
    return one_line(" ".join(f"{type(error).__name__}: {message}".split()).removesuffix(":"))[:200]


@contextmanager
def atomic(
    path: Path, ready: Callable[[], None] | None = None, kept: bool = False, durable: bool = True
) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or folder to; rename it to `path` on success.

    The data are synced before the rename, so that a crash of the machine leaves no incomplete file under `path`.
    `ready` is called just before the rename; if it or the block raises, what was written is discarded and `path` is
    unchanged. The temporary name holds host and process id, so that a job which outlived its killed workflow does not
    write into its successor's file. Leftovers of killed jobs are removed: those of `path` whose process on this host is
    gone, and any in the folder that were not written to for a week (a live job writes more often; otherwise it fails
    on the missing file). `kept` moves a folder into place by `publish`. Without `durable` neither the sync nor the
    search for leftovers takes place, which takes a tenth of the time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable:
        _sweep(path)
    aside = path.parent / f".{path.name}.{platform.node()}.{os.getpid()}.partial"
    remove(aside)
    try:
        yield aside
        if durable:
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
    """Move a complete folder to `kept/` beside `path`, make `path` a link to it, and remove earlier versions.

    Snakemake deletes a job's outputs before the job runs. Here it deletes only the link: what took hours to make stays
    until its successor is complete.
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
    """The folders that `publish` keeps for `path`, oldest first."""
    every = (path.parent / KEPT).glob(f"{glob.escape(path.name)}.????????")
    return sorted(every, key=lambda folder: folder.stat().st_mtime_ns)


def sync(path: Path) -> None:
    """Flush a file, or every file of a folder, to the disk."""
    inside = [path] if path.is_file() else path.rglob("*")
    files = [file for file in inside if file.is_file() and not file.is_symlink()]
    if len(files) > MANY:
        os.sync()
        return
    for file in files:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def _sweep(path: Path) -> None:
    """Remove leftovers of killed jobs beside `path`; see `atomic`."""
    own = f".{path.name}.{platform.node()}."
    with os.scandir(path.parent) as entries:
        left = [Path(entry) for entry in entries if PARTIAL.fullmatch(entry.name)]
    for partial in left:
        if (partial.name.startswith(own) and not _runs(int(PARTIAL.fullmatch(partial.name)[1]))) or _stale(partial):
            with suppress(FileNotFoundError, PermissionError):  # swept by another process, or another user's
                remove(partial)


def _runs(process: int) -> bool:
    """Whether a process of any user runs on this host."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _stale(partial: Path) -> bool:
    """Whether a file or folder, contents included, was not written to for `WEEK` seconds."""
    since = time.time() - WEEK
    try:
        return all(one.lstat().st_mtime < since for one in chain([partial], partial.rglob("*")))
    except FileNotFoundError:
        return False


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a name that the file system cannot represent."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        return False


def unfinished(folder: Path, settings: dict, inputs: Mapping[str, str] | None = None) -> None:
    """Prepare the folder of a long job's partial results; remove those made with other `settings` or `inputs`.

    `inputs` are the digests of what the job reads, by name.
    """
    path, known = folder / "settings.json", settings if inputs is None else {**settings, "inputs": inputs}
    before = read_json(path) if path.is_file() else None
    if before != known:
        if before is not None:
            say(f"{folder}: removed, since it {_differing(before, known)}; starting anew")
        remove(folder)
    write_json(path, known)


def _differing(before: dict, known: dict) -> str:
    """What distinguishes partial results from those of another job: its settings, or else its inputs."""
    one, other = before.get("inputs"), known.get("inputs")
    if {**before, "inputs": None} != {**known, "inputs": None} or not isinstance(one, dict):
        return "was made with other settings"
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return f"was stopped on other data ({', '.join(names)})"


def part_of(shard: str) -> tuple[int, int]:
    """The number of a shard such as `2-of-4`, from 1, and the number of shards; `InputError` for anything else."""
    parts = re.fullmatch(r"([1-9]\d*)-of-([1-9]\d*)", shard)
    number, of = map(int, parts.groups()) if parts else (1, 0)
    if number > of:
        raise InputError(f"shard {shard!r}: expected the form 2-of-4")
    return number, of


def remove(path: Path) -> None:
    """Delete a file or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """Read one JSON object; raises `InputError` with file and line."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error_summary(error)})") from error
    return read_record(text, str(path))


def write_json(path: Path, value: object, durable: bool = True) -> None:
    """Write `value` as indented UTF-8 JSON through `atomic`."""
    with atomic(path, durable=durable) as aside:
        aside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors=ESCAPED)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield `(line number from 1, record)`, skipping blank lines; raises `InputError` with the line."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield number, read_record(line, f"{path}, line {number}")


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, decompressed on the fly if its name ends in `.gz`."""
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
    """Parse a JSON object; raises `InputError` that begins with `place`."""
    record = _parsed(line, place)
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected an object, found {type(record).__name__}")
    return record


def _parsed(text: bytes, place: str) -> object:
    try:
        return json.loads(text)
    except Exception as error:  # besides syntax: nesting too deep, numbers too long, wrong encoding
        raise InputError(f"{place}: not valid JSON: {error_summary(error)}") from error


def write_jsonl(path: Path, records: list[dict]) -> None:
    """Write one JSON object per line."""
    with atomic(path) as aside, open(aside, "w", encoding="utf-8", errors=ESCAPED) as lines:
        lines.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
