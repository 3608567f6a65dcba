"""Settings shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# One cache of compiled functions for all tests and the processes they start: ranx compiles on first use.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".venv" / "numba"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What is left out unless asked for is slow too, so that `-m "not slow"` selects the quick tests."""
    for item in items:
        if item.get_closest_marker("whole") or item.get_closest_marker("slurm"):
            item.add_marker("slow")
