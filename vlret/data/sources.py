"""Sources of data: the hub or a URL, pinned and checked, or a local folder used in place.

`config/sources.yaml` lists published sources by name. A config gives one of these names, such a name with a local
folder, or a folder of the user's own. `resolve` turns all three into the same description, and `fetch` into a folder
with a fixed name for every role, whatever the original file names.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from vlret.console import say
from vlret.data.hub import describe_repository
from vlret.data.own import RECORD, shown
from vlret.data.pinned import Remote, bring
from vlret.data.transfer import verify
from vlret.files import InputError, atomic, write_json
from vlret.settings import without_braces

# Default files of a folder of the user's own, by purpose.
OWN = {
    "questions": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
    "wikipedia": {"wikipedia": "wikipedia.jsonl"},
    "images": {"images": "."},
    "passages": {"passages": "passages.jsonl"},
    "entities": {"entities": "entities.json"},
    "trivia": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
}
PACKED = (".bz2", ".gz", ".xz", ".zst")
SUMS = {"bytes": int, "sha256": str}  # fields of a file's sums
FIELDS = ("name", "path", "repository", "revision", "url", "files", "bytes_unpacked")


def resolve(value: str | Mapping, purpose: str, table: Mapping[str, Mapping], where: str) -> dict:
    """Describe a source that a config gives.

    Parameters
    ----------
    value
        A name in the table; or `{name, path}`, one of the table in a local folder; or `{path, files}`, the user's own;
        or `{repository, revision, files}`, a dataset of the hub that is not in the table. Archives need
        `bytes_unpacked`.
    purpose
        `questions`, `wikipedia`, `images`, `passages`, `entities` or `trivia`.
    table
        `config/sources.yaml`.
    where
        The value's field in the config, for errors.

    Returns
    -------
    dict
        `name`; `path`, or `repository` and `revision`, or `url`; `files`, role -> file, pattern or list of them;
        `sums`, file -> `{bytes, sha256}` if known; `bytes_unpacked`, the maximum unpacked size of archives.

    Raises
    ------
    InputError
        For a name not in the table, an unknown or missing field, or files that do not suit the purpose.
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
        known = _known(own["name"], table[own["name"]])
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


def _known(name: str, entry: object) -> dict:
    """A source's fields in the table, without those for readers only; raises `InputError` if they are invalid."""
    where = f"config/sources.yaml: {name}"
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: is {type(entry).__name__}, expected the fields of a source")
    known = {field: value for field, value in entry.items() if field in (*FIELDS, "sums")}
    _check_types(known, where)
    for file, sums in known.get("sums", {}).items():
        if not isinstance(sums, Mapping):
            raise InputError(f"{where}: field 'sums.{file}' is {type(sums).__name__}, expected bytes and sha256")
        for field, value in sums.items():
            if SUMS.get(field) is not type(value):
                raise InputError(f"{where}: field 'sums.{file}.{field}' is not bytes (a number) or sha256 (a string)")
    return known


def _check_types(own: Mapping, where: str) -> None:
    """Raise `InputError` for a field of a source that is of the wrong type."""
    for field, value in own.items():
        kind = {"files": Mapping, "sums": Mapping, "bytes_unpacked": int}.get(field, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{where}: field {field!r} is {type(value).__name__}, expected {kind.__name__}")
    try:
        without_braces(own.get("path", ""))
    except ValueError as error:
        raise InputError(f"{where}: field 'path': {error}") from error
    for role, files in own.get("files", {}).items():
        if not isinstance(files, str) and not (isinstance(files, list) and all(isinstance(one, str) for one in files)):
            raise InputError(f"{where}: field 'files.{role}' is not a file, pattern, or list of them")


def layout(source: Mapping) -> dict[str, str]:
    """Role -> its name in the folder made by `fetch`: `train.jsonl`, or `archives`, a folder of several files."""
    names = {}
    for role, files in source["files"].items():
        single = isinstance(files, str) and not _is_pattern(files) and files != "."
        names[role] = role + (_ending(files) if single else "")
    return names


def _ending(name: str) -> str:
    """The suffix of a file name, of a compressed file with the one before it: `.jsonl.gz`."""
    path = PurePosixPath(name)
    return PurePosixPath(path.stem).suffix + path.suffix if path.suffix in PACKED else path.suffix


def fetch(source: dict, out: Path, pins: dict | None = None) -> None:
    """Fetch a published source, resuming an interrupted fetch, or link a local one.

    `source.json` in the folder `out` describes it. Files from the hub or the web are fetched by
    `vlret.data.pinned.bring`. Files of a local folder are linked, not copied, and checked if their sums are known.

    Parameters
    ----------
    source
        A description by `resolve`.
    out
        The folder to write, every role by its name in `layout`.
    pins
        Fields of `source` that only verify what is fetched: `revision`, `sums`.

    Raises
    ------
    InputError
        If the hub or the folder lacks a file, or a file differs from its sums or from the first fetch.
    """
    source = {"revision": "main", "sums": {}, **source, **{key: pin for key, pin in (pins or {}).items() if pin}}
    if "path" in source:
        _link(source, out)
        return
    told = {key: source[key] for key in ("name", "repository", "revision", "url") if key in source}
    bring(
        told,
        lambda commit: _remote(source, commit),
        lambda files: [(name, place) for _, name, place in _places(source, files)],
        source["sums"],
        out,
    )


def files_in(source: Mapping) -> list[Path]:
    """The files of a source in a local folder, ordered by role; patterns are expanded, other names need not exist."""
    return [file for files in files_by_role(source).values() for file in files]


def files_by_role(source: Mapping) -> dict[str, list[Path]]:
    """Role -> its files in a local folder, in order; patterns are expanded, other names need not exist."""
    base, found = Path(source["path"]), {}
    for role, files in source["files"].items():
        found[role] = []
        for pattern in [files] if isinstance(files, str) else files:
            found[role] += sorted(base.glob(pattern)) if _is_pattern(pattern) else [base / pattern]
    return found


def folder_of(source: Mapping) -> Path:
    """The folder of a local source, by the user's name for it; raises `InputError` if it is not a folder."""
    base = Path(source["path"])
    if not base.is_dir():
        raise InputError(f"{source['name']}: {base} is not a folder; fix the source's path in the config")
    return base.absolute()  # without resolving links


def _remote(source: Mapping, commit: str | None) -> tuple[str, dict[str, Remote]]:
    """The commit and all files of a repository, or the one file at a URL."""
    if "url" in source:
        (name,) = source["files"].values()
        return source["url"], {name: Remote(source["url"], None, None, {})}
    return describe_repository(source["repository"], commit or source["revision"], "dataset")


def _link(source: Mapping, out: Path) -> None:
    """Link the files of a local folder into the folder `out`."""
    base = folder_of(source)
    noted = {}
    with atomic(out) as aside:
        for _, name, place in _places(source, (), base):
            sums = source["sums"].get(name)
            noted[name] = verify(base / name, sums.get("bytes"), sums.get("sha256")) if sums else {}
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            (aside / place).symlink_to(base / name)
        write_json(aside / RECORD, {"name": source["name"], "path": str(base), "files": noted})
    say(f"{source['name']}: {len(noted)} files of {base}, used where they are")


def _places(source: Mapping, names: Iterable[str], base: Path | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield `(role, file, its path in the result)` for every role's files, in order.

    Raises `InputError` if a file is not among `names` (or in the folder `base`).
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
                held = shown(base) if base else source.get("repository", source.get("url"))
                raise InputError(f"{source['name']}: {held} has no file {pattern}, which should hold its {role}")
            for name in found:
                # Numbered, so that sorting the names keeps the order of a list.
                place = f"{number:03d}-{PurePosixPath(name).name}"
                yield role, name, f"{role}/{place}" if folder else called[role]


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _fits(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern as in `Path.glob`: a star does not match slashes."""
    path, wanted = PurePosixPath(name), PurePosixPath(pattern)
    return name == pattern or (len(path.parts) == len(wanted.parts) and path.match(pattern))
