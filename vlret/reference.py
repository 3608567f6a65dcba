"""Generate `config/README.md`, the reference of all config keys, from the settings classes."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlret.schema import described
from vlret.settings import EXPERIMENT, PART

PATH = Path("config/README.md")
LONGEST = 60  # characters of a default that is a mapping; longer ones are documented in their class's table
TOP = "Config"
KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
NAMES = {f"^{PART}$": "name", f"^{EXPERIMENT}$": "experiment"}
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "ge": "≥ {}",
    "gt": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "le": "≤ {}",
    "lt": "< {}",
}
BEGIN = """# The config

`config/config.yaml` is the sample, `config/viquae.yaml` the published experiments, `config/own.yaml` a short config for
your own data. `config/models.yaml` names models and backbones, `config/sources.yaml` published data,
`config/downloads.yaml` packages.

```
snakemake --cores 2 results/table.tex                                             # config/config.yaml
snakemake --cores 2 results/table.tex --configfile config/config.yaml mine.yaml   # mine.yaml overrides
vlret data check --configfile config/config.yaml mine.yaml                        # every mistake in your own files
vlret grid --configfile config/config.yaml mine.yaml                              # every row: done, to run, stale
```

Later files override earlier ones: mappings are merged recursively, lists and scalars replaced, `null` removes a key,
and `grid`, `fusions`, `ablations`, `negatives` and `tasks` are replaced as a whole. Omitted keys have their defaults. A
mistake stops the run with one line that names file and field. See `docs/running.md` for grids, `docs/models.md` for
models, tuning and training, `docs/retrieval.md` for search, fusion and significance, and `docs/own-data.md` for your
own data.

The rest is generated from the classes in `vlret/settings/` by `python -m vlret.reference`. A `name` has lowercase
letters, digits, `+` and `-`; an `experiment` is four names joined by `_`: model, tuning, prefix and pooling.
"""


def reference() -> str:
    """The page as Markdown."""
    schema = described()
    classes = {TOP: {key: value for key, value in schema.items() if key != "$defs"}, **schema["$defs"]}
    order = list(dict.fromkeys([TOP, *_reached(classes, TOP)]))
    return "\n".join([BEGIN, *("\n".join(_section(name, classes)) for name in order)])


def _reached(classes: Mapping[str, Mapping], name: str) -> Iterator[str]:
    """The classes reachable from a class's fields, breadth first."""
    seen, waiting = {name}, [name]
    while waiting:
        for found in re.findall(r'"#/\$defs/(\w+)"', json.dumps(classes[waiting.pop(0)]["properties"])):
            if found not in seen:
                seen.add(found)
                waiting.append(found)
                yield found


def _section(name: str, classes: Mapping[str, Mapping]) -> list[str]:
    """Heading, description, and a table row per field."""
    entry = classes[name]
    lines = [f"## {name}", "", _plain(entry["description"]), ""]
    if not entry["properties"]:
        return lines
    lines += ["| key | value | default | |", "| --- | --- | --- | --- |"]
    required = entry.get("required", [])
    for key, field in entry["properties"].items():
        cells = (f"`{key}`", _value(field), _default(field, key in required), _about(field, classes))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def _value(field: Mapping) -> str:
    """The allowed values of a field."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(dict.fromkeys(_value(one) for one in field.get("anyOf", field.get("oneOf"))))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_value(field['items'])}"
    if field.get("type") == "object":
        return _mapping(field)
    if "pattern" in field:
        return NAMES.get(field["pattern"], f"text `{field['pattern']}`")
    limits = [said.format(field[limit]) for limit, said in LIMITS.items() if limit in field]
    return " ".join([KINDS[field["type"]], ", ".join(limits)]).strip()


def _mapping(field: Mapping) -> str:
    for pattern, value in field.get("patternProperties", {}).items():
        return f"{NAMES.get(pattern, f'text `{pattern}`')} → {_value(value)}"
    value = field.get("additionalProperties")
    return f"text → {_value(value)}" if isinstance(value, Mapping) else "mapping"


def _default(field: Mapping, required: bool) -> str:
    if "default" not in field:
        return "**required**" if required else ""
    text = json.dumps(field["default"], ensure_ascii=False)
    return "its own defaults" if len(text) > LONGEST and "$ref" in field else f"`{text}`"


def _about(field: Mapping, classes: Mapping[str, Mapping]) -> str:
    """The description of a field, or of the only class of its values."""
    values = re.findall(r'"#/\$defs/(\w+)"', json.dumps(field))
    return _plain(field.get("description") or (classes[values[0]]["description"] if len(values) == 1 else ""))


def _plain(text: str) -> str:
    """A text on one line, escaped for Markdown."""
    return " ".join(text.replace("<", "&lt;").split())


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
