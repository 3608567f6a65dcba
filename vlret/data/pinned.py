"""Folders of fetched files: pinned to a commit, recorded with sizes and checksums, resumed after an interruption."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vlret.console import say
from vlret.data.own import RECORD
from vlret.data.transfer import partial_of, transfer
from vlret.files import InputError, kept_of, publish, read_json, remove, write_json
from vlret.locks import locked


class Remote(NamedTuple):
    """A file that can be fetched; size and SHA-256 are None if unknown."""

    url: str
    bytes: int | None
    sha256: str | None
    headers: Mapping[str, str]


def bring(
    told: Mapping[str, str],
    look: Callable[[str | None], tuple[str, Mapping[str, Remote]]],
    choose: Callable[[Mapping[str, Remote]], Iterable[tuple[str, str]]],
    sums: Mapping[str, Mapping],
    out: Path,
) -> None:
    """Fetch files into the folder `out`; `source.json` in it describes them.

    Partial results are kept in `.{out.name}.unfinished`, so that an interrupted fetch resumes. Commit, sizes and
    checksums of the first fetch are recorded beside `out`, in `{out.name}.json`; every later fetch of the same `told`
    must match them.

    Parameters
    ----------
    told
        What to fetch: `repository` and `revision`, or `url`; `name` if it has one.
    look
        Maps the recorded commit, or None, to the commit and all its files by name.
    choose
        Maps these files to the names of the wanted ones, each with its path in `out`.
    sums
        Name -> `{bytes, sha256}`, as far as known.

    Raises
    ------
    InputError
        If a file differs from what is known or recorded of it, or the disk lacks space.
    """
    record, work = out.parent / f"{out.name}.json", out.parent / f".{out.name}.unfinished"
    with locked(out.parent / f".{out.name}.lock"):
        before = read_json(record) if record.is_file() else {}
        if any(before.get(key) != value for key, value in told.items()):
            before = {}
        commit, files = look(before.get("commit"))
        places = [(name, _inside(place, told)) for name, place in choose(files)]
        wanted = {}
        for name, _ in places:
            wanted[name] = files[name]
            for known in (sums.get(name, {}), before.get("files", {}).get(name, {})):
                wanted[name] = _agree(name, wanted[name], known, record)
        if not out.exists() and not work.exists() and (kept := kept_of(out)):
            os.replace(kept[-1], work)  # complete: only the link to it was deleted
        done = {**told, **_fetch(commit, wanted, places, work)}
        write_json(work / RECORD, done)
        write_json(record, done)
        publish(work, out)
    total, called = sum(entry["bytes"] for entry in done["files"].values()), told.get("name", told.get("repository"))
    say(f"{called} at {commit}: {len(done['files'])} files, {total / 1e6:.1f} MB, noted in {record}")


def contradiction(source: Mapping, record: Mapping) -> str | None:
    """How a source's pins contradict the record of its fetched files; None if they do not."""
    commit, revision = record.get("commit"), source.get("revision")
    if revision not in (None, commit, record.get("revision")):
        return f"{source['name']}: pinned to {revision}, but its files were fetched at {commit}"
    for name, sums in source["sums"].items():
        there = record.get("files", {}).get(name, {})
        if odd := [f"{key} {there[key]}" for key, value in sums.items() if there.get(key, value) != value]:
            return f"{source['name']}: sums of {name} are pinned to others than those of the file there ({odd[0]})"
    return None


def _inside(place: str, told: Mapping) -> str:
    """Return a path inside the folder; raises `InputError` for one outside it."""
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{told.get('repository', told.get('url'))}: file {place} is outside the folder")
    return place


def _fetch(commit: str, wanted: Mapping[str, Remote], places: Sequence[tuple[str, str]], work: Path) -> dict:
    """Fetch missing files to the folder `work`; returns `{commit, files}`, with the sums of each file."""
    done = read_json(work / RECORD) if (work / RECORD).is_file() else {}
    if done.get("commit") != commit:
        remove(work)
        done = {"commit": commit, "files": {}}
        write_json(work / RECORD, done)
    _check_room(work.parent, sum(_left(wanted[name], work / place) for name, place in places))
    for name, place in places:
        if name not in done["files"] or not (work / place).is_file():
            (work / place).parent.mkdir(parents=True, exist_ok=True)
            remote = wanted[name]
            done["files"][name] = transfer(remote.url, work / place, remote.bytes, remote.sha256, remote.headers)
            write_json(work / RECORD, done)
    return done


def _left(remote: Remote, path: Path) -> int:
    """The bytes of a file still to fetch, as far as known."""
    come = [file.stat().st_size for file in (path, partial_of(path)) if file.is_file()]
    return max(0, (remote.bytes or 0) - sum(come))


def _check_room(folder: Path, wanted: int) -> None:
    """Raise `InputError` if the disk has less space than `wanted` bytes."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise InputError(
            f"{folder}: {wanted / 1e9:.1f} GB to fetch, but only {free / 1e9:.1f} GB are free; free some space"
        )


def _agree(name: str, remote: Remote, known: Mapping, record: Path) -> Remote:
    """Complete a file's description by known fields; raises `InputError` if the server contradicts them."""
    for field, value in known.items():
        if getattr(remote, field) not in (None, value):
            raise InputError(
                f"{name}: its {field} is {getattr(remote, field)}, but was recorded as {value}; if that is expected, "
                f"remove {record} and its sums in config/sources.yaml"
            )
    return remote._replace(**known)
