"""Soft prompts, reparametrised (Li and Liang 2021, "Prefix-Tuning", section 4.3)."""

from torch import Tensor, nn


class Prompt(nn.Module):
    """Learned vectors that stand before the text: embedding, linear, tanh, linear.

    Source: github.com/ylsung/VL_adapter, `InputPrompts`.
    """

    def __init__(self, tokens: int, hidden: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, dim)
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim))

    def forward(self) -> Tensor:
        """The prompts, `[tokens, dim]`."""
        return self.project(self.embedding.weight)
