"""The user's files: their paths from the current folder, and fingerprints of weights."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlret.data.own import shown
from vlret.data.sources import files_in
from vlret.digests import fingerprint
from vlret.experiment import Experiment
from vlret.files import InputError
from vlret.layout.job import File
from vlret.settings import Config, Fingerprint, JointWeights, OwnWeights
from vlret.sizes import FIELDS, check_sizes, sizes_of, too_large


class Own:
    """The user's files; paths in the config are relative to the workflow's folder, `root`."""

    def __init__(self, root: Path):
        self.root = root
        self.seen: dict[Path, str] = {}

    def path(self, path: str | Path) -> Path:
        """Resolve a path of the config; the result is relative if below the current folder."""
        return shown(Path(os.path.normpath(self.root.absolute() / path)))  # does not resolve links

    def shown(self, path: str | Path) -> str:
        """`path` as text."""
        return str(self.path(path))

    def exists(self, path: str | Path) -> bool:
        """Whether a path of the config exists."""
        return self.path(path).exists()

    def weights(self, path: str | Path) -> File:
        """Local weights as an input of a job."""
        return File(self.shown(path), known=True)

    def files(self, source: Mapping) -> list[File]:
        """The files of a local source; for a folder of images, the folder and its newest file.

        Overwriting a file does not change the folder's time, so the newest file is needed to detect it.
        """
        found = []
        for path in files_in({**source, "path": self.shown(source["path"])}):
            found.append(File(path))
            if path.is_dir() and (newest := _newest(path)):
                found.append(File(newest))
        return found

    def identity(self, weights: object) -> object:
        """Weights as stored in an experiment's settings: local ones by fingerprint, others unchanged."""
        if isinstance(weights, OwnWeights):
            return Fingerprint(fingerprint=self._fingerprint(self.path(weights.path)))
        if isinstance(weights, JointWeights) and weights.package is None:
            return weights.model_copy(update={"path": None, "fingerprint": self._fingerprint(self.path(weights.path))})
        return weights

    def check_sizes(self, config: Config, experiments: Iterable[Experiment]) -> None:
        """Check experiments against the sizes of local weights, as far as those exist and state them."""
        for name in dict.fromkeys(experiment.model for experiment in experiments):
            text = getattr(config.models[name], "text", None)
            if text is None or text.architecture not in FIELDS:
                continue
            own = [weights.path for weights in (text.weights, text.passage) if isinstance(weights, OwnWeights)]
            folders = [path for each in own if ((path := self.path(each)) / "config.json").is_file()]
            check_sizes(name, text.architecture, text.sizes, folders)
            for folder in folders:
                if message := too_large(config, {name: sizes_of(folder, text.architecture)}):
                    raise InputError(message)

    def _fingerprint(self, path: Path) -> str:
        if path not in self.seen:
            self.seen[path] = fingerprint(path)
        return self.seen[path]


def _newest(folder: Path) -> str | None:
    """The most recently written file of a folder."""
    with os.scandir(folder) as entries:
        files = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.is_file()]
    return max(files)[1] if files else None
