"""What a running training shows: a line of its progress, the same in a file, and TensorBoard's curves."""

import math
import os
import platform
import time
from pathlib import Path

from torch import Tensor

from vlret.console import Status, clock
from vlret.files import InputError, write_json
from vlret.settings import ExperimentSettings
from vlret.training import distributed
from vlret.training.batches import Mixture

EVERY = 5  # steps between two looks at the loss, which wait for a GPU
TOLD = 5.0  # least seconds between two writings of the file of the progress
PROGRESS = "progress.json"


class Report:
    """Writes per task `loss/<task>` and `steps/<task>`, and what all share.

    That is `learning_rate`, `gradient_norm`, `questions_per_second` and `validation/mrr`. Of several
    processes only the first shows anything. `progress.json`, which `vlret status` reads, holds the step, the loss of
    that step, the epoch of the first task, the last validation's `mrr`, `questions_per_second`, and `seconds` until
    the estimated end; `time` is when it was written.

    Raises
    ------
    InputError
        When a loss is not finite.
    """

    def __init__(
        self, folder: Path, settings: ExperimentSettings, first: int, mixture: Mixture, stored: dict | None = None
    ):
        self.name, self.steps = settings.name, settings.training.steps
        self.remedy = "lower training.learning_rate"
        if settings.training.precision == "fp16":
            self.remedy = f"numbers above 65,504 are lost in fp16: set training.precision to bf16, or {self.remedy}"
        self.first, self.mixture, self.status = first, mixture, Status()
        self.losses: list[list[Tensor | float]] = stored["losses"] if stored else [[] for _ in mixture.tasks]
        self.taken: list[int] = stored["taken"] if stored else [0] * len(mixture.tasks)
        self.count, self.total, self.mrr = 0, 0.0, ""
        self.questions, self.since, self.begun = 0, time.monotonic(), time.monotonic()
        self.folder, self.told, self.known = folder, -math.inf, {"mrr": None}
        self.writer = None
        if distributed.rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        self.status.clear()
        if self.writer:
            self.writer.close()
        if kind is None and self.count:
            distributed.say(f"{self.name}: {self.count} steps, mean loss {self.total / self.count:.4f}{self.mrr}")

    def step(self, step: int, measured: dict) -> None:
        """Note what `Learner.step` returned."""
        task, before = self.mixture.place(step - 1)
        self.losses[task].append(measured["loss"])
        self.taken[task] = before + 1
        self.questions += self.mixture.tasks[task].settings.batch_size * self.mixture.accumulation
        if step % EVERY == 0 or step == self.steps:
            self._write(step, measured)
        if self.writer and (time.monotonic() - self.told >= TOLD or step == self.steps):
            self._tell(step, float(measured["loss"]))

    def state(self) -> dict:
        """What a run that goes on needs for the curve's next point: by task, losses not yet written and steps taken."""
        return {"losses": [[float(loss) for loss in losses] for losses in self.losses], "taken": list(self.taken)}

    def validation(self, step: int, mrr: float | None) -> None:
        """Note a validation's MRR."""
        if mrr is not None:
            self.mrr, self.known["mrr"] = f", validation MRR {mrr:.4f}", mrr
            if self.writer:
                self.writer.add_scalar("validation/mrr", mrr, step)

    def _write(self, step: int, measured: dict) -> None:
        means = {}
        counts = {}
        for task, losses, taken in zip(self.mixture.tasks, self.losses, self.taken, strict=True):
            if losses:
                values = [float(loss) for loss in losses]
                means[f"loss/{task.name}"] = sum(values) / len(values)
                counts[f"steps/{task.name}"] = taken
                self.total, self.count = self.total + sum(values), self.count + len(values)
                losses.clear()
        if not all(map(math.isfinite, means.values())):
            raise InputError(f"{self.name}: the loss is no longer finite at step {step}; {self.remedy}")
        now = time.monotonic()
        speed = self.questions / max(now - self.since, 1e-9)
        self.questions, self.since = 0, now
        if self.writer is None:
            return
        measures = {"learning_rate": measured["learning_rate"], "gradient_norm": float(measured["gradient_norm"])}
        for tag, value in {**means, **counts, **measures, "questions_per_second": speed}.items():
            self.writer.add_scalar(tag, value, step)
        losses = ", ".join(f"{tag.replace('/', ' ')} {value:.4f}" for tag, value in means.items())
        shown = f"{self.name}: step {step} of {self.steps}, {losses}{self.mrr}"
        self.status.show(f"{shown}, {speed:.1f} questions/s, {clock(self._left(step))} left")

    def _left(self, step: int) -> float:
        return (time.monotonic() - self.begun) / (step - self.first) * (self.steps - step)

    def _tell(self, step: int, loss: float) -> None:
        self.told, task = time.monotonic(), self.mixture.tasks[0]
        asked = [
            taken * one.settings.batch_size * self.mixture.accumulation
            for one, taken in zip(self.mixture.tasks, self.taken, strict=True)
        ]
        speed = sum(asked) / max(self.told - self.begun, 1e-9) * (step - self.first) / step
        known = {"epoch": asked[0] / len(task.examples), "questions_per_second": speed, "seconds": self._left(step)}
        where = {"host": platform.node(), "process": os.getpid(), "time": time.time()}
        write_json(
            self.folder / PROGRESS,
            {"step": step, "steps": self.steps, "loss": loss, **self.known, **known, **where},
        )
