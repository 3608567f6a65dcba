"""The user's own files: where they are for whom stands where, and what own weights are known by."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from vlret.data.sources import files_in
from vlret.layout.job import File
from vlret.settings import Fingerprint, JointWeights, OwnWeights

SAMPLES, SAMPLE = 16, 1 << 16  # places of a file that are looked at, and bytes at each


class Own:
    """Files of the user's own, whose paths in the config are relative to the workflow's folder `root`."""

    def __init__(self, root: Path):
        self.root = root
        self.seen: dict[Path, str] = {}

    def path(self, path: str | Path) -> Path:
        """Where a path of the config leads, from the current folder if it lies below that."""
        absolute = Path(os.path.normpath(self.root.absolute() / path))  # links stay as they are
        here = Path.cwd()
        return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute

    def shown(self, path: str | Path) -> str:
        """The same as text."""
        return str(self.path(path))

    def exists(self, path: str | Path) -> bool:
        """Whether it is there."""
        return self.path(path).exists()

    def weights(self, path: str | Path) -> File:
        """Own weights as what a job reads."""
        return File(self.shown(path), known=True)

    def files(self, source: Mapping) -> list[File]:
        """The files of a source in a folder; of a folder of images the folder and the newest of them.

        A file that is written over changes no folder's time, so the newest tells of it.
        """
        found = []
        for path in files_in({**source, "path": self.shown(source["path"])}):
            found.append(File(path))
            if path.is_dir() and (newest := _newest(path)):
                found.append(File(newest))
        return found

    def identity(self, weights: object) -> object:
        """Weights as an experiment's settings have them: one's own by their fingerprint, others as they are named."""
        if isinstance(weights, OwnWeights):
            return Fingerprint(fingerprint=self._fingerprint(self.path(weights.path)))
        if isinstance(weights, JointWeights) and weights.package is None:
            return weights.model_copy(update={"path": None, "fingerprint": self._fingerprint(self.path(weights.path))})
        return weights

    def _fingerprint(self, path: Path) -> str:
        """Digest of names, sizes and samples of the bytes of a file, or of those in a folder; empty if not there."""
        if path not in self.seen:
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            known = hashlib.sha256()
            for file in filter(Path.is_file, files):
                known.update(f"{file.relative_to(path) if file != path else ''} {file.stat().st_size}\n".encode())
                known.update(_sampled(file))
            self.seen[path] = known.hexdigest()[:16] if path.exists() else ""
        return self.seen[path]


def _sampled(path: Path) -> bytes:
    """Bytes of a file at its beginning, its end and places between; all of a small one."""
    size = path.stat().st_size
    step = max(1, (size - SAMPLE) // (SAMPLES - 1))
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for place in range(0, max(1, size - SAMPLE + 1), step) if size > SAMPLES * SAMPLE else (0,):
            stream.seek(place)
            digest.update(stream.read(SAMPLE if size > SAMPLES * SAMPLE else size))
    return digest.digest()


def _newest(folder: Path) -> str | None:
    """The file of a folder that was written last."""
    with os.scandir(folder) as entries:
        files = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.is_file()]
    return max(files)[1] if files else None
