"""Check this machine for a GPU without importing torch, which takes seconds."""

import re
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

# Device files of NVIDIA, Jetson, WSL and AMD drivers.
DEVICES = ("dev/nvidia*", "dev/nvhost*", "dev/nvmap", "dev/dxg", "dev/kfd")


def without_gpu(places: Iterable[str] | None = None, root: Path = Path("/")) -> str | None:
    """Why torch would find no GPU here; None if it may find one.

    Parameters
    ----------
    places
        Folders to search for torch; `sys.path` by default. If torch is not found, its build is not checked.
    root
        The folder that contains `dev`. Device files are only checked on Linux.
    """
    if (version := _version(sys.path if places is None else places)) is not None:
        built = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(.*)$", version, re.MULTILINE))
        if built and set(built.values()) == {"None"}:
            return "torch is built without CUDA"
    if sys.platform == "linux" and not any(any(root.glob(pattern)) for pattern in DEVICES):
        return "this machine has none"
    return None


def _version(places: Iterable[str]) -> str | None:
    """The text of torch's `version.py`; None without torch."""
    found = PathFinder.find_spec("torch", list(places))
    folders = found.submodule_search_locations if found else None
    path = Path(next(iter(folders))) / "version.py" if folders else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else None
