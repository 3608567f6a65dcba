"""Model negatives: passages ranked high by an experiment, such as a zero-shot model or an earlier training round.

Source: Xiong et al. 2021 (ANCE), Karpukhin et al. 2020 (DPR).
"""

from vlret.negatives.bm25 import NEEDS_RUN, candidates

__all__ = ["NEEDS_RUN", "candidates"]
