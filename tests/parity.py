"""The stored outputs of the original projects."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures" / "parity"


def load(name: str, part: str = "text") -> dict:
    """The JSON fixture `name` of one part."""
    return json.loads((FOLDER / part / f"{name}.json").read_text(encoding="utf-8"))
