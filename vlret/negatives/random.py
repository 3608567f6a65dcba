"""Passages sampled uniformly from the whole knowledge base: easy negatives, as a control."""

import numpy as np

from vlret.negatives import Known


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """`wanted` distinct passages in random order, or all if there are fewer."""
    total = len(known.articles)
    return generator.choice(total, size=min(wanted, total), replace=False)
