"""The stored outputs of the original projects."""

import json
import os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "fixtures" / "parity"


def folders() -> list[Path]:
    """Where to look for cases: only `VLRET_PARITY` if set, else the fixtures and `../shared/parity`."""
    if own := os.environ.get("VLRET_PARITY"):
        return [Path(own)]
    return [folder for folder in (FOLDER, ROOT.parent / "shared" / "parity") if folder.is_dir()]


def cases(part: str, pattern: str) -> list[Path]:
    """The JSON files of one part that match a glob such as `encoder_*`, sorted, each name once."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted((folder / part).glob(f"{pattern}.json")):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def arrays(case: Path) -> dict[str, np.ndarray]:
    """The arrays of a JSON file of `cases`, by name; none without an `.npz` beside it."""
    path = case.with_suffix(".npz")
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def read(case: Path) -> dict:
    """The content of a case's JSON file."""
    return json.loads(case.read_text(encoding="utf-8"))


def load(name: str, part: str = "text") -> dict:
    """The content of the JSON file of case `name` of one part."""
    return read(cases(part, name)[0])
