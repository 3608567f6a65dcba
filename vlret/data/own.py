"""Naming the user's own files as the user does, and suggesting corrections of wrong names.

Jobs read links in folders made by `vlret.data.sources.fetch`; users know their files by the original path.
"""

import os
from functools import lru_cache
from pathlib import Path

from vlret.suggest import nearest, suggestion

RECORD = "source.json"  # in each such folder
MOST_NAMES = 2000  # largest folder whose names are compared letter by letter


def known_as(path: Path) -> Path:
    """The user's own path, for one through a link to the user's files; any other path unchanged."""
    path = Path(path)
    for link in (path, *path.parents):
        links = os.path.islink(link)  # noqa: PTH114 (no error for an impossible file name)
        if links and any((folder / RECORD).is_file() for folder in (link.parent, link.parent.parent)):
            target = link.readlink()
            return shown(target / path.relative_to(link)) if target.is_absolute() else path
    return path


def shown(path: Path) -> Path:
    """A path relative to the current folder, if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def nearest_file(path: Path) -> str | None:
    """The file beside `path` with the most similar name: the same except for case or suffix, or nearly so."""
    if not path.parent.is_dir():
        return None
    stems = _stems(path.parent, path.parent.stat().st_mtime_ns)
    stem = _stem(path.name)
    if stem in stems or len(stems) > MOST_NAMES:
        return stems.get(stem)
    found = nearest(stem, stems)
    return None if found is None else stems[found]


def _stem(name: str) -> str:
    return Path(name).stem.casefold()


@lru_cache(maxsize=8)
def _stems(folder: Path, time: int) -> dict[str, str]:
    """Stem -> name of each file; `time`, when the folder changed, is part of the cache's key."""
    return {_stem(name): name for name in sorted(path.name for path in folder.iterdir())}


def absence(path: Path) -> str:
    """The message for a missing file of the user's own."""
    near = nearest_file(path)
    return f"{path}: does not exist, and nothing fetches it{suggestion(near and str(path.with_name(near)))}"
