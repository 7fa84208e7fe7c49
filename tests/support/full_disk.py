"""A disk that is full, for a process: no file of its may grow beyond so many bytes.

The kernel refuses the write itself (EFBIG in place of ENOSPC), in whatever file it is.
"""

from __future__ import annotations

import resource


def limit_files(size: str) -> None:
    """Files of this process hold `size` bytes at most. Python ignores the signal that comes too."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
