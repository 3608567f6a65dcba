"""Reparametrised soft prompts (Li and Liang 2021, "Prefix-Tuning", section 4.3), shared by tasks or per task."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from vlret.encoders.joint import initialise
from vlret.encoders.tasks import PerTask
from vlret.settings import Prompt as PromptSettings


class Prompt(nn.Module):
    """Learned vectors before the text: embedding, linear, tanh, linear.

    Source: github.com/ylsung/VL_adapter, `InputPrompts`.
    """

    def __init__(self, tokens: int, hidden: int, dim: int):
        super().__init__()
        self.prefix_embedding = nn.Sequential(
            nn.Embedding(tokens, dim), nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim)
        )

    def forward(self) -> Tensor:
        """The prompts, `[tokens, dim]`."""
        return self.prefix_embedding[1:](self.prefix_embedding[0].weight)


class Prompts(PerTask):
    """The prompts of the active task, or shared ones named after the first task.

    Source: github.com/ylsung/VL_adapter, `PromptController`.
    """

    def __init__(self, tasks: list[str], make: Callable[[], Prompt], single: bool):
        super().__init__(tasks)
        self.prompts = nn.ModuleDict({task: make() for task in (tasks[:1] if single else tasks)})

    def forward(self) -> Tensor:
        """The prompts, `[tokens, dim]`."""
        return self.prompts[self.task if self.task in self.prompts else self.tasks[0]]()


def add_prompts(encoder: nn.Module, settings: PromptSettings, tasks: list[str]) -> None:
    """Put prompts before the text."""
    make = partial(Prompt, settings.tokens, settings.hidden, encoder.dim)
    encoder.encoder.prompt = Prompts(tasks, make, settings.sharing == "single")
    initialise(encoder.encoder.prompt, encoder.init_std)
