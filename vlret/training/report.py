"""Report a running training: a status line, a progress file, and TensorBoard curves."""

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
from vlret.training.batches import Mixture, Task
from vlret.training.losses import chance

LOSS_STEPS = 5  # steps between reads of the loss, which synchronise with a GPU
PROGRESS_SECONDS = 5.0  # minimum interval between writes of the progress file
PROGRESS = "progress.json"
LATE, NOTHING_LEARNED = 0.75, 0.98  # of the steps, the last of which tell how a training ended; of the loss of guessing


class Report:
    """Writes curves per task (`loss/<task>`, `steps/<task>`) and for all tasks.

    The latter are `learning_rate`, `gradient_norm`, `questions_per_second` and `validation/mrr`. Only the first
    process reports. `progress.json`, which `vlret status` reads, holds the step and its loss, the epochs of the first
    task so far (`Batches.epoch`), the last validation's `mrr`, `questions_per_second`, the estimated `seconds` left,
    and the `time` of writing.

    Raises
    ------
    InputError
        If a loss is not finite.
    """

    def __init__(
        self, folder: Path, settings: ExperimentSettings, first: int, mixture: Mixture, stored: dict | None = None
    ):
        self.name, self.steps = settings.name, settings.training.steps
        self.remedy = "lower training.learning_rate"
        if settings.training.precision == "fp16":
            self.remedy = f"fp16 overflows above 65,504: set training.precision to bf16, or {self.remedy}"
        self.first, self.mixture, self.status = first, mixture, Status()
        self.losses: list[list[Tensor | float]] = stored["losses"] if stored else [[] for _ in mixture.tasks]
        self.taken: list[int] = stored["taken"] if stored else [0] * len(mixture.tasks)
        self.count, self.total, self.mrr = 0, 0.0, ""
        self.late: list[list[float]] = [[] for _ in mixture.tasks]  # losses of the last quarter
        self.questions, self.since, self.started = 0, time.monotonic(), time.monotonic()
        self.folder, self.written, self.known = folder, -math.inf, {"mrr": None}
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
            for task, late in zip(self.mixture.tasks, self.late, strict=True):
                self._warn_of_chance(task, late)

    def step(self, step: int, measured: dict) -> None:
        """Record the result of `Learner.step`."""
        task, before = self.mixture.place(step - 1)
        self.losses[task].append(measured["loss"])
        self.taken[task] = before + 1
        self.questions += self.mixture.tasks[task].settings.batch_size * self.mixture.accumulation
        if step % LOSS_STEPS == 0 or step == self.steps:
            self._write(step, measured)
        if self.writer and (time.monotonic() - self.written >= PROGRESS_SECONDS or step == self.steps):
            self._write_progress(step, float(measured["loss"]))

    def state(self) -> dict:
        """What a resumed run needs to continue the curves: unwritten losses and steps taken, per task."""
        return {"losses": [[float(loss) for loss in losses] for losses in self.losses], "taken": list(self.taken)}

    def validation(self, step: int, mrr: float | None) -> None:
        """Record a validation's MRR."""
        if mrr is not None:
            self.mrr, self.known["mrr"] = f", validation MRR {mrr:.4f}", mrr
            if self.writer:
                self.writer.add_scalar("validation/mrr", mrr, step)

    def _warn_of_chance(self, task: Task, late: list[float]) -> None:
        """Say so if a task's loss ended where it is without any learning."""
        settings = task.settings
        passages = settings.batch_size * (1 + settings.negatives_per_question)
        guessing = chance(settings.loss, settings.batch_size, passages)
        if late and (ended := sum(late) / len(late)) >= NOTHING_LEARNED * guessing:
            distributed.say(
                f"{self.name}: task {task.name} learned nothing: its loss ended at {ended:.3f}, and guessing among "
                f"{passages} passages gives {guessing:.3f}; raise training.learning_rate or lower loss.temperature"
            )

    def _write(self, step: int, measured: dict) -> None:
        means = {}
        counts = {}
        for task, losses, taken, late in zip(self.mixture.tasks, self.losses, self.taken, self.late, strict=True):
            if losses:
                values = [float(loss) for loss in losses]
                means[f"loss/{task.name}"] = sum(values) / len(values)
                counts[f"steps/{task.name}"] = taken
                self.total, self.count = self.total + sum(values), self.count + len(values)
                late += values if step > LATE * self.steps else []
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
        return (time.monotonic() - self.started) / (step - self.first) * (self.steps - step)

    def _write_progress(self, step: int, loss: float) -> None:
        self.written = time.monotonic()
        seen = [
            taken * one.settings.batch_size * self.mixture.accumulation
            for one, taken in zip(self.mixture.tasks, self.taken, strict=True)
        ]
        speed = sum(seen) / max(self.written - self.started, 1e-9) * (step - self.first) / step
        epochs = self.taken[0] * self.mixture.accumulation / self.mixture.batches[0].epoch
        known = {"epoch": epochs, "questions_per_second": speed, "seconds": self._left(step)}
        where = {"host": platform.node(), "process": os.getpid(), "time": time.time()}
        write_json(
            self.folder / PROGRESS,
            {"step": step, "steps": self.steps, "loss": loss, **self.known, **known, **where},
        )
