"""What every child of `tests.support.children` has imported before it is forked: it starts at once.

Nothing here starts a thread, so that forking is safe.
"""

from __future__ import annotations

import duckdb  # noqa: F401
import openai  # noqa: F401
import polars  # noqa: F401

import flows.cli
import flows.progress
import flows.rederive
import flows.report
import flows.runs  # noqa: F401
from pipeline.novelty import NoveltyIndex

NoveltyIndex(0.7).admit(["Load the compiled comparison once, here.", "And compare with it once."])
