"""Finished rows do not need their intermediates, so those deleted to save space are not made again."""

from collections.abc import Iterator
from functools import cached_property

from vlret.experiment import Experiment, Row, mined_experiments, rows, training_of
from vlret.layout.job import File
from vlret.layout.jobs import Layout
from vlret.layout.paths import JUDGED, TABLES
from vlret.made import made_by


class Settled:
    """Find experiments whose rows are finished and current, so that their intermediates are not needed.

    Parameters
    ----------
    layout
        The layout of the config.
    """

    def __init__(self, layout: Layout):
        self.layout = layout

    def spared(self, experiment: str | None) -> bool:
        """Whether all rows of an experiment are done, and no unfinished row needs its results."""
        return experiment is not None and not {experiment} & (self._wanted | self._undone)

    @cached_property
    def _open(self) -> list[Row]:
        """The rows that are not done or not current."""
        since = max((self._time(file) for file in self._data()), default=0)
        return [row for row in rows(self.layout.config) if not self._current(self.layout.metrics(row.name), since)]

    @cached_property
    def _undone(self) -> set[str]:
        """The experiments with an open row."""
        return {row.parts.name for row in self._open if row.parts}

    @cached_property
    def _wanted(self) -> set[str]:
        """The experiments whose results open rows need."""
        if self.layout.config.evaluation.qrels == "dynamic" and self._open:
            return {row.name for row in rows(self.layout.config)}  # pooling reads all runs
        found: set[str] = set()
        waiting = [name for row in self._open for name in (*row.runs, row.parts.name if row.parts else "")]
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.layout.experiments:
                found.add(name)
                waiting += self._needed(self.layout.experiments[name])
        return found

    def _needed(self, experiment: Experiment) -> list[str]:
        run = training_of(self.layout.config, experiment)
        return [*filter(None, [run.start]), *mined_experiments(run.miners()).values()] if run else []

    def _current(self, metrics: File, since: float) -> bool:
        path = self.layout.place(metrics)
        return path.is_file() and made_by(path) == self.layout.digest(metrics) and self._time(metrics) >= since

    def _data(self) -> Iterator[File]:
        """The tables of the evaluated dataset, and the user's files they are made of."""
        dataset = self.layout.config.dataset
        yield from (self.layout.table(name, dataset) for name in TABLES)
        yield from (self.layout.made("qrels", split, dataset=dataset) for split in JUDGED)
        yield from self.layout.users()

    def _time(self, file: File) -> float:
        """Modification time of a file, or of Snakemake's timestamp in a folder; 0 if missing."""
        path = self.layout.place(file)
        stamp = path / ".snakemake_timestamp"
        try:
            return (stamp if stamp.exists() else path).stat().st_mtime
        except FileNotFoundError:
            return 0
