"""The one place that knows numba: a typed decorator and the machine's population count.

Importing this module imports numba (half a second); only the tree does.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])


# The modules whose text ends up in machine code.
_MODULES = ("comparing", "compiled", "growing", "rouge", "searching", "state", "words")


def _stamp() -> str:
    """Return a hash of the modules that are compiled."""
    digest = sha256()
    for name in _MODULES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


_STAMP = _stamp()


def compiled(function: _Function) -> _Function:
    """Compile a function with numba, without the interpreter lock, and cache the machine code.

    numba's cache lies beside the source or, where that is read-only, in NUMBA_CACHE_DIR or the
    user's cache directory; without any writable place nothing is cached. It compares the time of a
    function's own file only and would go on using machine code into which an older version of
    another file was compiled. A stale kernel could decide wrongly in silence, so that the cache's
    stamp is made to cover all of them here.
    """
    return _compile(function)


def inlined(function: _Function) -> _Function:
    """Compile a function like `compiled` does, as a part of its callers.

    A call that passes arrays costs two locked instructions an array, for numba's count of
    references; in the innermost loops that was half of all time.
    """
    return _compile(function, forceinline=True)


def _compile(function: _Function, **more: Any) -> _Function:
    options = {"nogil": True, "error_model": "numpy", **more}
    try:
        dispatcher = njit(cache=True, **options)(function)
        dispatcher._cache._cache_file._source_stamp = _STAMP
    except (RuntimeError, AttributeError):
        dispatcher = njit(**options)(function)
    return cast(_Function, dispatcher)


def _popcount(_context: Any, _word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


popcount: Callable[[Any], int] = intrinsic(_popcount)
"""Number of one bits of a uint64; only callable from compiled functions."""

integer = cast(Callable[[Any], int], np.int64)
"""A signed 64-bit integer from any other; numba makes a float of signed and unsigned ones mixed."""
