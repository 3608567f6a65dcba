"""numba with a writable cache, even if neither the code's folder nor the home directory is writable.

Import this before numba or a library that uses it: numba reads the cache folder once, and cached functions are an
error without one.
"""

import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path | None:
    """The cache folder of compiled functions; None for numba's own choice, if that is set or writable."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    if os.environ.get("NUMBA_CACHE_DIR") or _writable(Path(home, "numba")):
        return None
    folder = Path(tempfile.gettempdir(), f"vlret-numba-{os.getuid()}")
    return folder if _private(folder) else Path(tempfile.mkdtemp(prefix="vlret-numba-"))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private(folder: Path) -> bool:
    """Create a folder if needed; whether only this user can write to it, since numba executes its content."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


if chosen := cache_folder():
    os.environ["NUMBA_CACHE_DIR"] = str(chosen)

from numba import njit  # noqa: E402

__all__ = ["alone", "cache_folder", "njit"]


_alone: dict[str, dict[str, ModuleType]] = {}


@contextmanager
def alone(module: str) -> Iterator[ModuleType]:
    """A module of a library that uses numba, to be called in this context, without the rest of its package.

    `ranx.metrics` needs numba alone; `ranx` imports matplotlib, pandas and SciPy, seconds for each row's job. numba
    imports a function's package again when it finds the compiled function in its cache, hence the context. Whoever
    imports the package elsewhere gets all of it.
    """
    package = module.partition(".")[0]
    if package in sys.modules:
        yield importlib.import_module(module)
        return
    if package not in _alone:
        found = importlib.util.find_spec(package)
        if found is None:
            raise ModuleNotFoundError(f"no module named {package!r}", name=package)
        _alone[package] = {package: importlib.util.module_from_spec(found)}  # not executed
    sys.modules.update(_alone[package])
    try:
        yield importlib.import_module(module)
    finally:
        inside = [name for name in sys.modules if name.partition(".")[0] == package]
        _alone[package].update((name, sys.modules.pop(name)) for name in inside)
