"""The training loop, which resumes interrupted runs."""

import math
import signal
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.inputs import prefetch
from vlret.locks import BEAT, Lock
from vlret.settings import ExperimentSettings, Training
from vlret.training import distributed, state
from vlret.training.batches import Mixture, Task
from vlret.training.distributed import say
from vlret.training.learner import Learner
from vlret.training.pieces import pieces
from vlret.training.pool import PoolValidation
from vlret.training.report import Report
from vlret.training.stops import signals
from vlret.training.validate import Validation


def fit(
    model: BiEncoder,
    tasks: Sequence[Task],
    settings: ExperimentSettings,
    saving: state.Saving,
    validation: Validation | PoolValidation | None = None,
    lock: Lock | None = None,
) -> None:
    """Train `model` in place, resuming from the state in `saving.folder`, which `vlret.files.unfinished` prepared.

    With `validation`, the model ends with the weights of the best validation. Only the first process writes to the
    folder, and only while it holds `lock`.

    Raises
    ------
    InputError
        If batches cannot be filled, the machine or the model does not support the settings, the loss is not finite, or
        the lock is lost.
    SystemExit
        With 128 + the signal's number if stopped by a signal; the state after the last step is saved.
    """
    training, rank, world, folder = settings.training, distributed.rank(), distributed.world(), saving.folder
    distributed.wait()
    mixing = training.mixing, training.accumulation, settings.seed
    mixture = Mixture(tasks, *mixing, world, training.chunk, training.sampling)
    learner = Learner(model, tasks, training, settings.seed)
    progress = Progress(learner, validation, training)
    first = progress.resume(folder, settings.name)
    reporting = Report(folder, settings, first, mixture, progress.curve)
    with signals() as stop, distributed.worker() as worker, saving, reporting as report:
        stream = prefetch(pieces(mixture, range(first, training.steps), rank, world), worker)
        for step in range(first, training.steps):
            task, _ = mixture.place(step)
            measured = learner.step(step, task, stream)
            if lock:
                lock.check(known=2 * BEAT)
            report.step(step + 1, measured)
            report.validation(step + 1, progress.validate(step + 1, worker))
            if progress.over or step + 1 == training.steps:
                break
            stopped = stop.agreed()
            if rank == 0 and (saving.due(step + 1) or stopped):
                saving.start(step + 1, {**progress.state(), "curve": report.state()})
            if stopped:
                saving.finish()
                distributed.wait()  # else the launcher would kill the first process while it saves
                name = signal.Signals(stopped).name
                say(f"{settings.name}: stopped by {name} after step {step + 1}; run the same command to resume")
                raise SystemExit(128 + stopped)
    progress.finish(settings.name)


class Progress:
    """A learner with its best weights so far, for early stopping.

    Attributes
    ----------
    best
        `step`, `mrr` and `weights` of the best validation; empty before the first.
    waited
        The number of validations since then.
    curve
        `Report.state` of the resumed run; None without one.
    """

    def __init__(self, learner: Learner, validation: Validation | PoolValidation | None, training: Training):
        self.learner, self.validation, self.training = learner, validation, training
        self.best: dict = {}
        self.waited = 0
        self.curve: dict | None = None

    @property
    def over(self) -> bool:
        """Whether `patience` validations brought no improvement."""
        return 0 < self.training.patience <= self.waited

    def validate(self, step: int, worker: Executor) -> float | None:
        """Validate if due after this step, keep the best weights, and return the MRR."""
        due = step % (self.training.validate_every or math.inf) == 0 or step == self.training.steps
        if self.validation is None or not due:
            return None
        mrr = self.validation.mrr(self.learner, worker)
        if mrr > self.best.get("mrr", -math.inf):
            self.best, self.waited = {"step": step, "mrr": mrr, "weights": self.learner.weights()}, 0
        else:
            self.waited += 1
        return mrr

    def state(self) -> dict:
        """Everything that later steps depend on."""
        return {**self.learner.state(), "best": self.best, "waited": self.waited}

    def resume(self, folder: Path, name: str) -> int:
        """Restore the last state in `folder` and return its number of steps."""
        stored = state.last(folder)
        if stored is None:
            return 0
        say(f"{name}: resuming from step {stored['step']} of an interrupted run")
        self.learner.restore(stored)
        self.best, self.waited, self.curve = stored["best"], stored["waited"], stored["curve"]
        return stored["step"]

    def finish(self, name: str) -> None:
        """Set the model to the best weights, or leave the last ones without validation."""
        if self.best:
            self.learner.set_weights(self.best["weights"])
            say(f"{name}: best validation MRR {self.best['mrr']:.4f} after step {self.best['step']}")
