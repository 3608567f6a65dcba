"""Hard negatives of a model: what any experiment's run ranks high, a zero-shot one's or an earlier round's of training.

Xiong et al. 2021 (ANCE) and Karpukhin et al. 2020 (DPR) train in such rounds.
"""

from vlret.negatives.bm25 import NEEDS_RUN, candidates

__all__ = ["NEEDS_RUN", "candidates"]
