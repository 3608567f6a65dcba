"""numba, with a place for what it compiles also where neither the code's folder nor the home can be written.

Whatever imports numba, or a library that does, imports this first: numba reads the place once, and functions that are
kept on disk are an error to it where it finds none.
"""

import importlib.util
import os
import stat
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType


def place() -> Path | None:
    """Where compiled functions go: None for numba's own choice, which is taken if it is set or can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    if os.environ.get("NUMBA_CACHE_DIR") or _writable(Path(home, "numba")):
        return None
    folder = Path(tempfile.gettempdir(), f"vlret-numba-{os.getuid()}")
    return folder if _own(folder) else Path(tempfile.mkdtemp(prefix="vlret-numba-"))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _own(folder: Path) -> bool:
    """Whether a folder, made here if need be, is this user's alone: numba runs what it finds there."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


if chosen := place():
    os.environ["NUMBA_CACHE_DIR"] = str(chosen)

from numba import njit  # noqa: E402

__all__ = ["load", "njit", "place"]


@cache
def load(module: str) -> ModuleType:
    """A module of a library that compiles by numba, without all else that the library's package imports.

    `ranx.metrics` needs numba alone; `ranx` imports matplotlib, pandas and SciPy, seconds for each row's job.
    """
    package = module.partition(".")[0]
    if package in sys.modules:
        return importlib.import_module(module)
    found = importlib.util.find_spec(package)
    if found is None:
        raise ModuleNotFoundError(f"no module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(found)  # not executed
    try:
        return importlib.import_module(module)
    finally:  # whoever imports the package itself gets all of it
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
