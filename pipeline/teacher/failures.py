"""What can go wrong when a teacher is asked, by what has to be done about it."""

from __future__ import annotations

import re

from pipeline.errors import EvoloomError, InterruptedRunError, UsageError


class TransientTeacherError(EvoloomError):
    """Raised when the identical request may be answered if sent again.

    `retry_after_s` is what the endpoint asked for, in seconds, or None; `overload` says that it was
    asked too much at once (429, 503, 504, no answer in time), as far as can be told.
    """

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, overload: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.overload = overload


class FinalTeacherError(EvoloomError):
    """Raised when the endpoint refuses in a way that no other request would change (401, 403, 404,
    and any 400 that is not about one request alone)."""


class TeacherSetupError(UsageError):
    """Raised when a teacher cannot be used as configured; exit code 2."""


class TeacherUnreachableError(TeacherSetupError):
    """Raised when nobody answers at an address, or answers with an error that may pass."""


class TeacherGoneError(InterruptedRunError):
    """Raised when a teacher that had answered refuses for good; exit code 75, resumable."""


# How endpoints say that one request is too long, or that one request's content is refused. Codes
# first (OpenAI, Azure), then the sentences of servers that send no code (vLLM, llama.cpp, TGI).
_CONTEXT_LENGTH = re.compile(
    r"context_length_exceeded|string_above_max_length|maximum (context|model) length"
    r"|context (length|size|window)|prompt is too long|reduce (the|your) (length|prompt)"
    r"|longer than the maximum model length|max_model_len|exceeds? the (available )?context"
    r"|max_new_tokens`? must be <=|`inputs` must have less than|exceeds the maximum number of tokens",
    re.IGNORECASE,
)
_CONTENT_POLICY = re.compile(
    r"content_policy_violation|content_filter|responsibleaipolicyviolation|content management policy"
    r"|safety system|violates? .{0,40}(usage|content) polic",
    re.IGNORECASE,
)


def refusal_kind(message: str) -> str | None:
    """`context_length` or `content_policy` where a 400's text is about this request alone."""
    if _CONTEXT_LENGTH.search(message):
        return "context_length"
    if _CONTENT_POLICY.search(message):
        return "content_policy"
    return None
