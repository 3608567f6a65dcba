"""The JSON schema of configs, generated from their classes, by which editors complete and check YAML."""

import json
from pathlib import Path

from vlret.settings import METHODS, Config

PATH = Path("config/schemas/config.schema.json")


def schema() -> str:
    """The schema as text. No key is required, since a config may consist of several files."""
    described = Config.model_json_schema()
    described.pop("required", None)
    for method in METHODS:  # named by the key of `tuning`
        described["$defs"][method.__name__]["required"].remove("method")
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema(), encoding="utf-8")
