"""The stored outputs of the original projects."""

import json
import os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "fixtures" / "parity"


def folders() -> list[Path]:
    """Where cases are looked for: `VLRET_PARITY` alone if it is set, else the fixtures and `../shared/parity`."""
    if own := os.environ.get("VLRET_PARITY"):
        return [Path(own)]
    return [folder for folder in (FOLDER, ROOT.parent / "shared" / "parity") if folder.is_dir()]


def cases(part: str, pattern: str) -> list[Path]:
    """The JSON files of one part whose names match a glob such as `encoder_*`, each name once, sorted."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted((folder / part).glob(f"{pattern}.json")):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def arrays(case: Path) -> dict[str, np.ndarray]:
    """The arrays of the case that a JSON file of `cases` describes, by name; none if it has no `.npz` beside it."""
    path = case.with_suffix(".npz")
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def read(case: Path) -> dict:
    """What a case's JSON file says."""
    return json.loads(case.read_text(encoding="utf-8"))


def load(name: str, part: str = "text") -> dict:
    """What the JSON file of the case `name` of one part says."""
    return read(cases(part, name)[0])
