"""Diversity of a dataset: what its instructions ask for, and how varied its texts are.

`analyse` gives verb and noun of each instruction, by the published rule or by ours. spaCy is
imported when the first text is parsed.
"""

from pipeline.diversity.records import Kind, Method, VerbNoun
from pipeline.diversity.verb_noun import PARSER_VERSION, analyse

__all__ = ["PARSER_VERSION", "Kind", "Method", "VerbNoun", "analyse"]
