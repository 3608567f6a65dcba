"""Parts of an encoder that exist once a training task: adapters and prompts of their own for each."""

from torch import nn


class PerTask(nn.Module):
    """A module that works for the task which `activate` named last, at first for the first of `tasks`."""

    def __init__(self, tasks: list[str]):
        super().__init__()
        self.tasks, self.task = list(tasks), tasks[0]

    def activate(self, task: str) -> None:
        """Work for `task` from now on; `ValueError` if this module has no part for it."""
        if task not in self.tasks:
            raise ValueError(f"task {task!r}: there are parts for {', '.join(self.tasks)}")
        self.task = task


def activate(module: nn.Module, task: str) -> None:
    """Let every part of `module` that exists once a task work for `task`."""
    for part in module.modules():
        if isinstance(part, PerTask):
            part.activate(task)
