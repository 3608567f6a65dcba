"""Digests of files and folders by their content, wherever they are and whenever they were written."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlret.made import NOTE

WINDOW = 1 << 16  # bytes that are read at each position of a large file
IDENTIFYING, CHECKED = 16, 1024  # positions


def fingerprint(path: Path) -> str:
    """Digest of names, sizes and bytes of a file or of all files in a folder; empty if missing.

    Files above 1 MiB are read at 16 positions. Settings identify the user's weights by it, so that it never changes.
    """
    return _digest(path, _files(path), IDENTIFYING)


def content(path: Path) -> str:
    """Digest of names, sizes and bytes of a file or of the files in a folder; empty if missing.

    Files up to 64 MiB are read as a whole, larger ones at 1,024 evenly spaced positions, 64 KiB each: in 1 GiB, an edit
    of 1 MiB is always seen, one of a few bytes rarely. Tables that are made here state the digest of all their bytes in
    a small file (`vlret.data.tables`), so only large feature stores and weights can differ unseen. Notes and hidden
    files, which Snakemake and download clients put into folders, are not read.
    """
    inside = [file for file in _files(path) if file == path or not _beside(file.relative_to(path))]
    return _digest(path, inside, CHECKED)


def digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """The `content` of each path."""
    return {name: content(Path(path)) for name, path in paths.items()}


def _beside(file: Path) -> bool:
    return file.name == NOTE or any(part.startswith(".") for part in file.parts)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _digest(path: Path, files: Iterable[Path], positions: int) -> str:
    known = hashlib.sha256()
    for file in filter(Path.is_file, files):
        known.update(f"{file.relative_to(path) if file != path else ''} {file.stat().st_size}\n".encode())
        known.update(_sampled(file, positions))
    return known.hexdigest()[:16] if path.exists() else ""


def _sampled(path: Path, positions: int) -> bytes:
    """Digest of bytes from evenly spaced positions of a file, or of all of one that is no larger than these."""
    size, digest = path.stat().st_size, hashlib.sha256()
    step = max(1, (size - WINDOW) // (positions - 1))
    with open(path, "rb") as stream:
        if size <= positions * WINDOW:
            return hashlib.file_digest(stream, "sha256").digest()
        for place in range(0, size - WINDOW + 1, step):
            stream.seek(place)
            digest.update(stream.read(WINDOW))
    return digest.digest()
