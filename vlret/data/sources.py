"""Where published data come from: the hub or a web address, pinned and checked, or a folder that is used in place.

`config/sources.yaml` knows the published ones by name. A config names one of them, one of them in a local folder, or a
folder of the user's own; `resolve` makes one description of all three, and `fetch` one folder, in which every role has
one name, whatever the files were called.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from vlret.console import say
from vlret.data.hub import Remote, describe_dataset
from vlret.data.transfer import partial_of, transfer, verify
from vlret.files import InputError, read_json, remove, whole, write_json
from vlret.locks import locked

# What a folder of the user's own is taken to hold, by what it is for.
OWN = {
    "questions": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
    "wikipedia": {"wikipedia": "wikipedia.jsonl"},
    "images": {"images": "."},
    "passages": {"passages": "passages.jsonl"},
    "entities": {"entities": "entities.json"},
    "trivia": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
}
FIELDS = ("name", "path", "repository", "revision", "url", "files", "bytes_unpacked")
RECORD = "source.json"


def resolve(value: str | Mapping, purpose: str, table: Mapping[str, Mapping], where: str) -> dict:
    """One description of a source that a config names.

    Parameters
    ----------
    value
        A name of the table; or `{name, path}`, one of the table in a local folder; or `{path, files}`, the user's own;
        or `{repository, revision, files}`, a dataset of the hub that is not in the table. Archives need
        `bytes_unpacked`.
    purpose
        `questions`, `wikipedia`, `images`, `passages`, `entities` or `trivia`.
    table
        `config/sources.yaml`.
    where
        The value's place in the config, for errors.

    Returns
    -------
    dict
        `name`; `path`, or `repository` and `revision`, or `url`; `files`, role -> file, pattern or list of them;
        `sums`, file -> `{bytes, sha256}` where known; `bytes_unpacked`, the most that may come out of archives.

    Raises
    ------
    InputError
        For a name that the table lacks, an unknown or missing field, or files that do not serve the purpose.
    """
    own = {"name": value} if isinstance(value, str) else dict(value)
    if unknown := sorted(set(own) - set(FIELDS)):
        raise InputError(f"{where}: field {unknown[0]!r} is unknown: use {', '.join(FIELDS)}")
    _check_types(own, where)
    known = {}
    if "name" in own:
        if own["name"] not in table:
            raise InputError(
                f"{where}: no source is called {own['name']!r}; config/sources.yaml has {', '.join(table)}"
            )
        known = dict(table[own["name"]])
    found = {"name": purpose, "revision": "main", "sums": {}, "bytes_unpacked": None, **known, **own}
    if "path" not in found and "repository" not in found and "url" not in found:
        raise InputError(f"{where}: neither a name of config/sources.yaml nor a path nor a repository is given")
    if "path" in found:
        for remote in ("repository", "url", "revision"):
            found.pop(remote, None)
        found.setdefault("files", OWN[purpose])
    roles, serves = set(found.get("files", ())), [set(OWN[purpose])]
    serves += [{"archives"}] if purpose == "images" else []
    if not roles or (purpose != "wikipedia" and roles not in serves):
        expected = " or ".join(", ".join(sorted(some)) for some in serves)
        raise InputError(f"{where}: its files are {', '.join(sorted(roles)) or 'missing'}; {purpose} are {expected}")
    if "archives" in roles and not found["bytes_unpacked"]:
        raise InputError(f"{where}: bytes_unpacked, the most that may come out of its archives, is missing")
    wanted = ("name", "path", "repository", "revision", "url", "files", "sums", "bytes_unpacked")
    return {field: found[field] for field in wanted if field in found}


def _check_types(own: Mapping, where: str) -> None:
    """Raise `InputError` for a field of a config's source that is of another type than it should be."""
    for field, value in own.items():
        kind = {"files": Mapping, "bytes_unpacked": int}.get(field, str)
        if not isinstance(value, kind):
            raise InputError(f"{where}: field {field!r} is {type(value).__name__}, expected {kind.__name__}")
    for role, files in own.get("files", {}).items():
        if not isinstance(files, str) and not (isinstance(files, list) and all(isinstance(one, str) for one in files)):
            raise InputError(f"{where}: field 'files.{role}' is no file, pattern, or list of them")


def layout(source: Mapping) -> dict[str, str]:
    """Role -> its name in the folder that `fetch` makes: `train.jsonl`, or `archives`, a folder of several files."""
    names = {}
    for role, files in source["files"].items():
        single = isinstance(files, str) and not _is_pattern(files) and files != "."
        extension = PurePosixPath(files).name.partition(".")[2] if single else ""
        names[role] = f"{role}.{extension}" if extension else role
    return names


def fetch(source: Mapping, out: Path) -> None:
    """Bring a source into the folder `out`, every role by its name of `layout`; `source.json` there says what it is.

    What has come of the hub or the web stays in `.{out.name}.unfinished` until all is there, so that a fetch that was
    broken off goes on. Commit, sizes and checksums of the first time are written beside `out`, to `{out.name}.json`,
    and hold for every later fetch of that revision. Files of a local folder are linked, not copied, and those whose
    sums are known are checked.

    Raises
    ------
    InputError
        If the hub or the folder lacks a file, or a file is not as it should be, or not as it was the first time.
    """
    if "path" in source:
        _link(source, out)
        return
    record = out.parent / f"{out.name}.json"
    with locked(out.parent / f".{out.name}.lock"):
        told = {key: source[key] for key in ("name", "repository", "revision", "url") if key in source}
        before = read_json(record) if record.is_file() else {}
        if any(before.get(key) != value for key, value in told.items()):
            before = {}
        commit, files = _remote(source, before)
        work = out.parent / f".{out.name}.unfinished"
        done = _bring(source, commit, files, before, work, record)
        write_json(work / RECORD, {**told, **done})
        write_json(record, {**told, **done})
        remove(out)
        os.replace(work, out)
    total = sum(entry["bytes"] for entry in done["files"].values())
    say(f"{source['name']} at {commit}: {len(done['files'])} files, {total / 1e6:.1f} MB, noted in {record}")


def _remote(source: Mapping, before: Mapping) -> tuple[str, dict[str, Remote]]:
    """The commit and all files of a repository, or the one file of an address."""
    if "url" in source:
        (name,) = source["files"].values()
        return source["url"], {name: Remote(source["url"], None, None, {})}
    return describe_dataset(source["repository"], before.get("commit") or source["revision"])


def _bring(
    source: Mapping, commit: str, files: Mapping[str, Remote], before: Mapping, work: Path, record: Path
) -> dict:
    """Fetch to the folder `work` what is not there yet; `{commit, files}`, with the sums of each file."""
    done = read_json(work / RECORD) if (work / RECORD).is_file() else {}
    if done.get("commit") != commit:
        remove(work)
        done = {"commit": commit, "files": {}}
        write_json(work / RECORD, done)
    places = list(_places(source, files))
    _check_room(work.parent, sum(_left(files[name], work / place) for _, name, place in places))
    for _, name, place in places:
        remote = files[name]
        sums = {"bytes": remote.bytes, "sha256": remote.sha256}
        for known in (source["sums"].get(name, {}), before.get("files", {}).get(name, {})):
            _agree(name, sums, known, record)
        if name not in done["files"] or not (work / place).is_file():
            (work / place).parent.mkdir(parents=True, exist_ok=True)
            done["files"][name] = transfer(remote.url, work / place, sums["bytes"], sums["sha256"], remote.headers)
            write_json(work / RECORD, done)
    return done


def _left(remote: Remote, path: Path) -> int:
    """How many bytes of a file have to come still, as far as is known."""
    come = [file.stat().st_size for file in (path, partial_of(path)) if file.is_file()]
    return max(0, (remote.bytes or 0) - sum(come))


def _check_room(folder: Path, wanted: int) -> None:
    """Raise `InputError` where a disk has no room for that many bytes."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise InputError(
            f"{folder}: {wanted / 1e9:.1f} GB are to be fetched, and {free / 1e9:.1f} GB are free; make room"
        )


def _agree(name: str, sums: dict, known: Mapping, record: Path) -> None:
    """Take up what is known of a file; raises `InputError` where the server says something else."""
    for field, value in known.items():
        if sums[field] not in (None, value):
            raise InputError(
                f"{name}: its {field} is {sums[field]} now, and was recorded as {value}; if it may change, remove "
                f"{record} and what config/sources.yaml says of it"
            )
        sums[field] = value


def _link(source: Mapping, out: Path) -> None:
    """Links to the files of a local folder."""
    base = Path(source["path"])
    if not base.is_dir():
        raise InputError(f"{source['name']}: {base} is not a folder; mend the source's path in the config")
    base = base.resolve()
    noted = {}
    with whole(out) as aside:
        for _, name, place in _places(source, (), base):
            sums = source["sums"].get(name)
            noted[name] = verify(base / name, sums.get("bytes"), sums.get("sha256")) if sums else {}
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            (aside / place).symlink_to(base / name)
        write_json(aside / RECORD, {"name": source["name"], "path": str(base), "files": noted})
    say(f"{source['name']}: {len(noted)} files of {base}, used where they are")


def _places(source: Mapping, names: Iterable[str], base: Path | None = None) -> Iterator[tuple[str, str, str]]:
    """Every role's files in their order, and where each goes: `(role, file, place)`.

    Raises `InputError` where there is no such file among `names` (or in the folder `base`).
    """
    called = layout(source)
    for role, files in source["files"].items():
        folder = called[role] == role and files != "."
        for number, pattern in enumerate([files] if isinstance(files, str) else files):
            if base is None:
                found = sorted(name for name in names if _fits(name, pattern))
            elif _is_pattern(pattern):
                found = sorted(str(path.relative_to(base)) for path in base.glob(pattern))
            else:
                found = [pattern] if (base / pattern).exists() else []
            if not found:
                held = base or source.get("repository", source.get("url"))
                raise InputError(f"{source['name']}: {held} has no file {pattern}, which should hold its {role}")
            for name in found:
                # Sorted names keep the order of a list, too.
                place = f"{number:03d}-{PurePosixPath(name).name}"
                yield role, name, f"{role}/{place}" if folder else called[role]


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _fits(name: str, pattern: str) -> bool:
    """As `Path.glob` has it: a star does not reach into folders."""
    path, wanted = PurePosixPath(name), PurePosixPath(pattern)
    return name == pattern or (len(path.parts) == len(wanted.parts) and path.match(pattern))
