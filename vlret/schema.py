"""Generate the JSON schema of configs, with which editors complete and check YAML."""

import json
from pathlib import Path

from vlret.settings import METHODS, Config

PATH = Path("config/schemas/config.schema.json")


def described() -> dict:
    """The schema of a whole config."""
    whole = Config.model_json_schema()
    for method in METHODS:  # implied by the key in `tuning`
        whole["$defs"][method.__name__]["required"].remove("method")
    return whole


def schema() -> str:
    """The schema as JSON. No top-level key is required, since a config may consist of several files."""
    values = described()
    values.pop("required", None)
    values["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema(), encoding="utf-8")
