"""The one teacher interface: an OpenAI-compatible endpoint, asked asynchronously.

One call here is one HTTP request. What to do about a failure (again, later, never) is decided by
the caller from the exception's type; see `pipeline.teacher.failures`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai

from pipeline.records import Completion, Refusal, Usage
from pipeline.run.requests import TeacherRequest
from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import (
    FinalTeacherError,
    TeacherSetupError,
    TransientTeacherError,
    refusal_kind,
)

if TYPE_CHECKING:
    from types import TracebackType

# 408 and 409 are what proxies send for time-outs and conflicts that pass; 425 is 'too early'.
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})


class TeacherClient:
    """A connection pool to one endpoint. Use it as an asynchronous context manager."""

    def __init__(self, base_url: str, settings: TeacherSettings) -> None:
        """
        Args:
            base_url: such as `http://127.0.0.1:8000/v1`.
            settings: time-out, key, API kind.
        """
        key = settings.api_key.get_secret_value() if settings.api_key else "none"
        self._settings = settings
        self.base_url = base_url
        # Retries are the run's own, so that it can count, pause and stop.
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=key, max_retries=0, timeout=settings.timeout_s
        )

    async def __aenter__(self) -> TeacherClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def preflight(self) -> str:
        """Check endpoint, key and model before anything is started; returns the model's name.

        Raises:
            TeacherSetupError: unreachable, key refused, model not served, or no model named where
                the endpoint serves several.
        """
        wanted = self._settings.model
        try:
            served = [model.id async for model in self._client.models.list()]
        except openai.APIStatusError as exc:
            if exc.status_code in (401, 403):
                raise TeacherSetupError(
                    f"teacher {self.base_url}: the key was refused ({exc.status_code}); set "
                    "EVOLOOM_TEACHER__API_KEY"
                ) from exc
            if exc.status_code in (404, 405, 501) and wanted:
                return wanted  # an endpoint without a list of models: the first request will tell
            raise TeacherSetupError(
                f"teacher {self.base_url}: GET /models was answered with {exc.status_code} "
                f"({_message(exc)}); is this the address of an OpenAI-compatible API, with its /v1?"
            ) from exc
        except (openai.APIError, ValueError, TypeError, AttributeError) as exc:
            raise TeacherSetupError(
                f"teacher {self.base_url}: not reachable ({_cause(exc)}); start it, or set "
                "EVOLOOM_TEACHER__BASE_URL to where it is, or unset that to use the local engine"
            ) from exc
        if wanted is None and len(served) == 1:
            return served[0]
        if wanted is None:
            raise TeacherSetupError(
                f"teacher {self.base_url} serves {len(served)} models ({', '.join(served[:10])}); "
                "name one in teacher.model (EVOLOOM_TEACHER__MODEL)"
            )
        if served and wanted not in served:
            raise TeacherSetupError(
                f"teacher {self.base_url} has no model '{wanted}'; it serves "
                f"{', '.join(served[:10])}. Set teacher.model (EVOLOOM_TEACHER__MODEL)"
            )
        return wanted

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once.

        Raises:
            TransientTeacherError: no usable answer arrived; the same request may be sent again.
            FinalTeacherError: the endpoint refuses for good.
        """
        body = request.body()
        extra = {key: body.pop(key) for key in list(body) if key in _NOT_OPENAI}
        try:
            if isinstance(request.prompt, str):
                answer: Any = await self._client.completions.create(
                    **body, extra_body=extra or None
                )
            else:
                answer = await self._client.chat.completions.create(
                    **body, extra_body=extra or None
                )
        except openai.APIStatusError as exc:
            return _refused(exc)
        except openai.APIError as exc:
            raise TransientTeacherError(_cause(exc)) from exc
        except (json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise TransientTeacherError(f"the answer is not valid JSON ({exc})") from exc
        return _read(answer)


# Fields that engines take beside OpenAI's own.
_NOT_OPENAI = frozenset({"structured_outputs", "prompt_logprobs"})


def _read(answer: Any) -> Completion:
    choices = getattr(answer, "choices", None)
    if not choices:
        raise TransientTeacherError("the answer holds no choices")
    choice = choices[0]
    message = getattr(choice, "message", None)
    text = getattr(choice, "text", None) if message is None else message.content
    finish_reason = choice.finish_reason
    if text is None and message is not None and finish_reason in ("stop", "length", "content_filter"):
        text = getattr(message, "refusal", None) or ""
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise TransientTeacherError("the answer's choice holds no text or no finish_reason")
    return Completion(text, finish_reason, _usage(answer.usage), answer.model or "")


def _usage(usage: Any) -> Usage | None:
    if usage is None or not isinstance(usage.prompt_tokens, int):
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None) or 0
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached)


def _refused(exc: openai.APIStatusError) -> Refusal:
    status = exc.status_code
    message = _message(exc)
    if status >= 500 or status in _TRANSIENT_STATUS:
        raise TransientTeacherError(f"{status} {message}", _retry_after(exc)) from exc
    kind = refusal_kind(f"{exc.code or ''} {message}") if status in (400, 413, 422) else None
    if kind is not None:
        return Refusal(kind, message)
    raise FinalTeacherError(f"the teacher answered {status}: {message}") from exc


def _retry_after(exc: openai.APIStatusError) -> float | None:
    value = exc.response.headers.get("retry-after-ms")
    try:
        if value is not None:
            return max(0.0, float(value) / 1000)
        value = exc.response.headers.get("retry-after")
        if value is None:
            return None
        return max(0.0, float(value))
    except ValueError:
        return _seconds_until(str(value))


def _seconds_until(date: str) -> float | None:
    import time
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


def _message(exc: openai.APIStatusError) -> str:
    body = exc.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        text = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(text, str) and text:
            return text[:2000]
    return str(exc)[:2000]


def _cause(exc: BaseException) -> str:
    deepest: BaseException = exc
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    name = type(deepest).__name__
    text = str(deepest).strip()
    return f"{name}: {text}"[:300] if text and text != name else str(exc) or name
