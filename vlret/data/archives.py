"""Unpacking archives of images from the open web: tar files, gzipped or not, whole or split into parts.

Archives are unpacked rather than used in place: gzip has no random access, and every stage, and every other tool, reads
a folder of images. Users who have already unpacked them give that folder as the source.
"""

import errno
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vlret.console import meter, say
from vlret.disk import FULL
from vlret.files import InputError, error_summary, publish, read_json, remove, unfinished, write_json
from vlret.locks import Lock, TakenOver, locked

CHUNK = 2**20
WINDOW = 2**30  # bytes after which the images are synced and counted
GZIP = b"\x1f\x8b"
END = bytes(1024)  # of every tar
PASSING = (*FULL, errno.EIO, errno.ESTALE)  # faults of the disk, not of the archive
IMAGES = "images"  # the folder of what is unpacked


class Joined(io.RawIOBase):
    """Concatenated files as one stream that can be read once.

    Parameters
    ----------
    paths
        The files, in order.
    count
        Called with the number of bytes after each read.
    """

    def __init__(self, paths: Sequence[Path], count: Callable[[int], object]):
        self.count, self.chunks = count, self._read(paths)
        self.left = memoryview(b"")

    @staticmethod
    def _read(paths: Sequence[Path]) -> Iterator[memoryview]:
        for path in paths:
            with open(path, "rb") as stream:
                while chunk := stream.read(CHUNK):
                    yield memoryview(chunk)

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer) -> int:
        """Fill a buffer with the next bytes."""
        self.left = self.left or next(self.chunks, memoryview(b""))
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        self.count(size)
        return size


def unpack_images(archives: list[Path], most_bytes: int, out: Path) -> None:
    """Unpack the regular files of one archive to the folder `out`, without the archive's subfolders.

    An interrupted call is resumed by the same call, from a folder beside `out`: only images of the last `WINDOW` bytes
    are written again.

    Parameters
    ----------
    archives
        The archive, or its parts in order, or the folder that holds them.
    most_bytes
        Upper limit of the unpacked size.
    out
        The folder to write.

    Raises
    ------
    InputError
        For a name outside the folder, a repeated name, a link or special file, more than `most_bytes`, or a broken
        archive, and nothing is left behind; or for a full or failing disk, and what was unpacked is kept.
    """
    paths = list(_parts(archives))
    label, work = paths[0].name, out.with_name(f"{out.name}.unfinished")
    with locked(out.with_name(f".{out.name}.lock")) as lock:
        known = [(path.name, path.stat()) for path in paths]
        unfinished(work, {"archives": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in known]})
        try:
            with (
                meter(sum(path.stat().st_size for path in paths), 0, label) as bar,
                _opened(paths, bar.update) as stream,
            ):
                count, size = _unpack(stream, label, most_bytes, work, lock)
        except TakenOver:
            raise
        except Exception as error:  # tarfile and gzip raise many undocumented types for broken files
            if getattr(error, "errno", None) not in PASSING:
                remove(work)
            if isinstance(error, InputError):
                raise
            raise InputError(f"{label}: cannot be unpacked ({error_summary(error)})") from error
        publish(work / IMAGES, out)
        remove(work)
    say(f"{count} images, {size / 1e6:.1f} MB, of {len(paths)} files")


def _opened(paths: Sequence[Path], count: Callable[[int], object]) -> BinaryIO:
    """The tar stream in the files; raises OSError if it is truncated, which tarfile ignores."""
    joined = io.BufferedReader(Joined(paths, count), CHUNK)
    if joined.peek(2)[:2] == GZIP:
        return gzip.GzipFile(fileobj=joined)
    with open(paths[-1], "rb") as last:
        last.seek(max(0, paths[-1].stat().st_size - len(END)))
        if not END.endswith(last.read() or b"?"):
            raise EOFError("no end of a tar archive")
    return joined


def _parts(archives: Sequence[Path]) -> Iterator[Path]:
    for path in archives:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        held = sorted(path.iterdir()) if path.is_dir() else [path]
        if not held:
            raise InputError(f"{path}: an empty folder, expected an archive or its parts")
        yield from held


def _unpack(stream: BinaryIO, label: str, most_bytes: int, work: Path, lock: Lock) -> tuple[int, int]:
    """Number and total bytes of the files in `work`; those that an interrupted call synced are not written again.

    All of the archive is read again, as a packed one cannot be entered in the middle.
    """
    folder, noted = work / IMAGES, work / "synced.json"
    fresh, synced = not folder.is_dir(), read_json(noted)["images"] if noted.is_file() else 0
    folder.mkdir(exist_ok=True)
    if not fresh:
        say(f"{label}: resuming after {synced} images")
    count = size = written = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir():
                continue
            path = folder / _safe_name(member, label)
            size += member.size
            if size > most_bytes:
                raise InputError(f"{label}: unpacks to more than {most_bytes} bytes; not unpacked")
            if count >= synced or not _is_whole(path, member.size):
                # Files after the synced ones may be there in parts.
                with archive.extractfile(member) as source, open(path, "xb" if fresh else "wb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
                written += member.size
            count += 1
            archive.members.clear()  # tarfile remembers every member, and there are millions
            if written >= WINDOW:
                written = 0
                _note(noted, count, lock)
        while stream.read(CHUNK):  # so that gzip verifies its checksum
            pass
    if not count:
        raise InputError(f"{label}: no file in this archive")
    if repeated := count - sum(1 for _ in os.scandir(folder)):
        raise InputError(f"{label}: {repeated} of the names are repeated; not unpacked")
    _note(noted, count, lock)
    return count, size


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _note(path: Path, images: int, lock: Lock) -> None:
    """Record the number of images, once they are on the disk, which a crash of the machine leaves as they are."""
    lock.check()
    os.sync()  # an fsync of each of a million images takes hours
    write_json(path, {"images": images})


def _safe_name(member: tarfile.TarInfo, label: str) -> str:
    """The name of a regular file, without its folders."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not name.name or "\\" in member.name or "\0" in member.name:
        raise InputError(f"{label}: member {member.name!r} is outside the folder; not unpacked")
    if not member.isreg():
        raise InputError(f"{label}: member {member.name!r} is not a plain file; not unpacked")
    return name.name
