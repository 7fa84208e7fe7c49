"""How the threads of numeric libraries wait for one another."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Let threads that wait give their core away; to be called before torch is loaded, which reads it
    once. They would spin, which makes a model five times slower as soon as another process, an engine
    say, computes on the same cores. A value that the user has set stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
