"""The user's own files by the names that the user gave them, and what a name that is wrong may stand for.

Jobs read links in folders that `vlret.data.sources.fetch` makes; whoever mends a file knows it by its own path.
"""

import difflib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

RECORD = "source.json"  # in each such folder
ALIKE = 0.8  # difflib's measure of names of which one may be meant by the other
MOST_NAMES = 2000  # of a folder that are compared letter by letter


def known_as(path: Path) -> Path:
    """A path as the user wrote it, where it leads through a link to the user's own files; any other as it is."""
    path = Path(path)
    for link in (path, *path.parents):
        links = os.path.islink(link)  # noqa: PTH114 (no error for a name that no file can have)
        if links and any((folder / RECORD).is_file() for folder in (link.parent, link.parent.parent)):
            target = link.readlink()
            return shown(target / path.relative_to(link)) if target.is_absolute() else path
    return path


def shown(path: Path) -> Path:
    """A path from the current folder, if it lies below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that was most likely meant by `name`; capitals are no difference."""
    plain = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), plain, n=1, cutoff=ALIKE)
    return plain[found[0]] if found else None


def meant(name: str | None) -> str:
    """The end of a message that suggests a name; nothing without one."""
    return "" if name is None else f"; did you mean {name!r}?"


def nearest_file(path: Path) -> str | None:
    """The file beside `path` whose name is most like its name: the same but for capitals or suffix, or nearly so."""
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
    """Stem -> name of a file, as they were at that time."""
    return {_stem(name): name for name in sorted(path.name for path in folder.iterdir())}


def absence(path: Path) -> str:
    """What is said of a file of the user's own that is not there."""
    near = nearest_file(path)
    return f"{path}: is not there, and nothing fetches it{meant(near and str(path.with_name(near)))}"
