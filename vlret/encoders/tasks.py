"""Parts of an encoder that exist once per training task, such as adapters and prompts."""

from torch import nn


class PerTask(nn.Module):
    """A module with one part per task; the active one is the first of `tasks` until `activate` changes it."""

    def __init__(self, tasks: list[str]):
        super().__init__()
        self.tasks, self.task = list(tasks), tasks[0]

    def activate(self, task: str) -> None:
        """Use the part of `task`; `ValueError` if there is none."""
        if task not in self.tasks:
            raise ValueError(f"task {task!r}: known are {', '.join(self.tasks)}")
        self.task = task


def activate(module: nn.Module, task: str) -> None:
    """Activate `task` in every `PerTask` part of `module`."""
    for part in module.modules():
        if isinstance(part, PerTask):
            part.activate(task)
