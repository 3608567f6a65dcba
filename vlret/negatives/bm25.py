"""BM25 negatives: passages ranked high for the question without an answer (DPR, Karpukhin et al. 2020)."""

import numpy as np

from vlret.negatives import Known

NEEDS_RUN = True


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """The first `wanted` passages of the question's ranking, best first; none if the run lacks the question."""
    ranking = known.run.get(question)
    return np.empty(0, np.int64) if ranking is None else ranking.passages[:wanted]
