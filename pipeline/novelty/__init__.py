"""Novelty: which texts are new to a pool, decided exactly as ROUGE-L decides it.

`NoveltyIndex` gives the decisions of the published filter (Self-Instruct, Wang et al. 2023: admit
a text when its ROUGE-L with every text of the pool stays below 0.7) without comparing with every
text of the pool.
"""

from pipeline.novelty.index import IMPLEMENTATIONS, TREE_FROM, NoveltyIndex, warm_up
from pipeline.novelty.records import Admission, Neighbour
from pipeline.novelty.tokenizers import Tokenizer, multilingual_tokens, rouge_tokens

__all__ = [
    "IMPLEMENTATIONS",
    "TREE_FROM",
    "Admission",
    "Neighbour",
    "NoveltyIndex",
    "Tokenizer",
    "multilingual_tokens",
    "rouge_tokens",
    "warm_up",
]
