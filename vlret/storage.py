"""The disk space that a plan will need."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import median

from vlret.experiment import Experiment
from vlret.layout import Layout
from vlret.planned import Plan, Planned

BYTES = {"float16": 2, "float32": 4, "int8": 1}
SCALE = 4  # bytes beside a vector in int8


class Storage:
    """How much the results of a plan take on disk.

    Vectors are counted from the passages, once these are made; of everything else the median of the rule's existing
    results is taken.

    Attributes
    ----------
    sizes
        Bytes of each job's results; None if unknown.
    """

    def __init__(self, plan: Plan):
        self.plan, self.layout = plan, plan.layout
        self._medians: dict[str, float | None] = {}
        self.sizes = [self._size(job) for job in plan.jobs]

    def peak(self, slots: int) -> tuple[int, int]:
        """The most bytes at any time with up to `slots` jobs in parallel, and those that stay; unknown ones count as 0.

        What is temporary is deleted once the last job that reads it has ended; Snakemake prefers jobs that read it.
        """
        jobs, before = self.plan.jobs, self.plan.before
        passing = [self.layout.temporary(job.rule) for job in jobs]
        spans = self.plan.spans(slots, lambda row: any(passing[each] for each in before[row]), unknown=1.0)
        changes, stay = [], 0
        for row, size in enumerate(self.sizes):
            changes.append((spans[row][0], size or 0))
            readers = self.plan.after[row]
            if passing[row] and readers:
                changes.append((max(spans[reader][1] for reader in readers), -(size or 0)))
            else:
                stay += size or 0
        most = now = 0
        for _, change in sorted(changes, key=lambda change: (change[0], change[1] < 0)):
            now += change
            most = max(most, now)
        return most, stay

    def _size(self, job: Planned) -> int | None:
        if job.rule == "gather":
            return 0  # links
        if job.rule == "embed" and (exact := self._vectors(job)) is not None:
            return exact
        if job.rule not in self._medians:
            patterns = [re.sub(r"{\w+}", "*", path) for path in self.layout.outputs(job.rule).values()]
            found = [sum(map(size_of, paths)) for paths in zip(*map(self._existing, patterns), strict=False)]
            self._medians[job.rule] = median(found) if found else None
        known = self._medians[job.rule]
        return None if known is None else round(known)

    def _existing(self, pattern: str) -> list[Path]:
        return sorted(self.layout.place(str(path)) for path in Path().glob(pattern))

    def _vectors(self, job: Planned) -> int | None:
        """Bytes of a shard of vectors; None before passages are made, or for an unknown width."""
        embedding = self.layout.config.embedding
        width = width_of(self.layout, Experiment.parse(job.wildcards["experiment"]))
        kind = self.layout.config.models[job.wildcards["experiment"].partition("_")[0]].kind
        units = self._units["articles" if kind in ("image", "dual") else "passages"]
        if width is None or units is None:
            return None
        each = width * BYTES[embedding.dtype] + (SCALE if embedding.dtype == "int8" else 0)
        return units * each // embedding.shards

    @cached_property
    def _units(self) -> dict[str, int | None]:
        """The number of passages and of articles; None for tables that are not made."""
        from datasets import load_from_disk

        tables = {name: self.layout.table(name, self.layout.config.dataset) for name in ("passages", "articles")}
        paths = {name: self.layout.place(table) for name, table in tables.items()}
        made = {name: (path / "state.json").exists() for name, path in paths.items()}
        return {name: len(load_from_disk(str(path))) if made[name] else None for name, path in paths.items()}


def width_of(layout: Layout, experiment: Experiment) -> int | None:
    """The numbers of an experiment's vectors, as far as the config states them."""
    model = layout.config.models[experiment.model]
    if model.kind in ("image", "dual"):
        cells = model.visual.tokens[0] * model.visual.tokens[1] if model.visual.tokens else 1
        return layout.config.backbones[model.backbone].dim * (cells if experiment.pooling == "concat" else 1)
    if model.head.projection or model.text.sizes.width is None:
        return model.head.projection
    layers = re.fullmatch(r"concat-last-(\d+)", experiment.pooling)
    return model.text.sizes.width * (int(layers[1]) if layers else 1)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files: Sequence[Path] = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def shown(size: float) -> str:
    """A number of bytes as KiB, MiB, GiB or TiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
