"""Settings shared by all tests."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]

# One cache of compiled functions for all tests and the processes they start: ranx compiles on first use.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".venv" / "numba"))
