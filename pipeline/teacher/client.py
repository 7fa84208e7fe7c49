"""The one teacher interface: an OpenAI-compatible endpoint, asked asynchronously.

One call here is one HTTP request. What to do about a failure (again, later, never) is decided by
the caller from the exception's type; see `pipeline.teacher.failures`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2

from pipeline.records import Completion, Refusal, Usage
from pipeline.run.requests import TeacherRequest
from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import (
    FinalTeacherError,
    TeacherSetupError,
    TeacherUnreachableError,
    TransientTeacherError,
    refusal_kind,
)
from pipeline.teacher.posting import CONNECT_S, Answer, Poster
from pipeline.teacher.served import ServedModel

if TYPE_CHECKING:
    from types import TracebackType

    import openai

# 408 and 409 are what proxies send for time-outs and conflicts that pass; 425 is 'too early'.
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
# Of these and of 5xx: those that say that it was too much at once (529 is Anthropic's).
_OVERLOAD_STATUS = frozenset({408, 429, 503, 504, 529})
# A listing of models is small: whoever mistypes an address should not wait for a completion's time.
_PREFLIGHT_S = 30.0


class TeacherClient:
    """Connections to one endpoint. Use it as an asynchronous context manager."""

    def __init__(self, base_url: str, settings: TeacherSettings, stage: str | None = None) -> None:
        """
        Args:
            base_url: such as `http://127.0.0.1:8000/v1`.
            settings: time-out, key, API kind.
            stage: whose settings these are, where a stage has its own; for messages.
        """
        self._stage = stage
        self._settings = settings
        self.base_url = base_url
        self._poster = Poster(base_url, settings)

    async def __aenter__(self) -> TeacherClient:
        await self._poster.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._poster.close()

    async def preflight(self) -> ServedModel:
        """Check endpoint, key and model before anything is started; returns the model.

        Raises:
            TeacherSetupError: unreachable, key refused, model not served, or no model named where
                the endpoint serves several.
        """
        import openai  # a third of a second, which commands that ask nobody save

        wanted = self._settings.model
        try:
            owners = await self._list_models()
            served = list(owners)
        except openai.APIStatusError as exc:
            if exc.status_code in (401, 403):
                raise TeacherSetupError(
                    f"teacher {self.base_url}: the key was refused ({exc.status_code}); set "
                    + self._setting("api_key_variable" if self._stage else "api_key")
                ) from exc
            if exc.status_code in (404, 405, 501) and wanted:
                # An endpoint without a list of models: the first request will tell.
                return ServedModel(wanted)
            passes = exc.status_code >= 500 or exc.status_code in _TRANSIENT_STATUS
            raise (TeacherUnreachableError if passes else TeacherSetupError)(
                f"teacher {self.base_url}: GET /models was answered with {exc.status_code} "
                f"({_message(exc)}); is this the address of an OpenAI-compatible API, with its /v1?"
            ) from exc
        except openai.APIError as exc:
            raise TeacherUnreachableError(
                f"teacher {self.base_url}: not reachable ({_cause(exc)}); start it, or {self._way_out()}"
            ) from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise TeacherSetupError(
                f"teacher {self.base_url}: GET /models was answered, but not with the JSON list of "
                "an OpenAI-compatible API (a web page or a proxy?); set "
                f"{self._setting('base_url')} to the address of the API, with its /v1"
            ) from exc
        if wanted is None and len(served) == 1:
            return ServedModel(served[0], owners[served[0]])
        if wanted is None and not served:
            raise TeacherSetupError(
                f"teacher {self.base_url} lists no model; load one there, or name one in "
                f"{self._named('model')}"
            )
        if wanted is None:
            raise TeacherSetupError(
                f"teacher {self.base_url} serves {len(served)} models ({', '.join(served[:10])}); "
                f"name one in {self._named('model')}"
            )
        if served and wanted not in served:
            raise TeacherSetupError(
                f"teacher {self.base_url} has no model '{wanted}'; it serves "
                f"{', '.join(served[:10])}. Set {self._named('model')}"
            )
        return ServedModel(wanted, owners.get(wanted, ""))

    async def _list_models(self) -> dict[str, str]:
        """The models of `GET /models` with their owners."""
        import openai

        settings = self._settings
        key = settings.api_key.get_secret_value() if settings.api_key else None
        # The library wants a key in any case; without one of the user's no header is sent.
        headers: Any = None if key else {"Authorization": openai.Omit()}
        patience = httpx2.Timeout(
            min(settings.timeout_s, _PREFLIGHT_S), connect=min(settings.timeout_s, CONNECT_S)
        )
        # Retries are the run's own, so that it can count, pause and stop.
        async with openai.AsyncOpenAI(
            base_url=self.base_url, api_key=key or "none", max_retries=0, timeout=patience
        ) as client:
            listing = client.models.list(extra_headers=headers)
            return {model.id: model.owned_by or "" async for model in listing}

    def _setting(self, name: str) -> str:
        if self._stage is not None:
            return f"teacher.stages.{self._stage}.{name}"
        return f"EVOLOOM_TEACHER__{name.upper()}"

    def _way_out(self) -> str:
        if self._stage is None and self._settings.endpoints:
            return "correct teacher.endpoints, or leave it out to use the local engine"
        other = "the teacher's" if self._stage else "the local engine"
        return f"set {self._setting('base_url')} to where it is, or unset that to use {other}"

    def _named(self, name: str) -> str:
        return (
            f"teacher.{name} ({self._setting(name)})"
            if self._stage is None
            else self._setting(name)
        )

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once.

        Raises:
            TransientTeacherError: no usable answer arrived; the same request may be sent again.
            FinalTeacherError: the endpoint refuses for good.
        """
        path = "/completions" if isinstance(request.prompt, str) else "/chat/completions"
        answer = await self.post(path, request.body())
        return answer if isinstance(answer, Refusal) else _read(answer)

    async def post(self, path: str, body: dict[str, Any]) -> bytes | Refusal:
        """Send one body once; what the endpoint answered with, unread.

        Raises:
            TransientTeacherError, FinalTeacherError: as `complete`.
        """
        answer = await self._poster.post(path, body)
        return answer.content if 200 <= answer.status < 300 else _refused(answer)


def _read(content: bytes) -> Completion:
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        finish_reason = choice["finish_reason"]
        message = choice.get("message")
        text = choice["text"] if message is None else message.get("content")
        if text is None and message is not None:
            text = message.get("refusal") or ""
        usage = _usage(answer.get("usage"))
        model = answer.get("model") or ""
    except (ValueError, RecursionError) as exc:
        raise TransientTeacherError(f"the answer is not valid JSON ({exc})") from exc
    except (LookupError, TypeError, AttributeError) as exc:
        raise TransientTeacherError(
            "the answer is no completion: it lacks choices, their text or finish_reason"
        ) from exc
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise TransientTeacherError("the answer's choice holds no text or no finish_reason")
    # Half of a surrogate pair is no character: it could neither be stored nor sent in a prompt.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Completion(text, finish_reason, usage, str(model))


def _usage(usage: Any) -> Usage | None:
    prompt = _count(usage, "prompt_tokens")
    if prompt is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = min(_count(details, "cached_tokens") or 0, prompt)
    return Usage(prompt, _count(usage, "completion_tokens") or 0, cached)


def _count(record: Any, name: str) -> int | None:
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _refused(answer: Answer) -> Refusal:
    status = answer.status
    code, message = _said(answer.content)
    message = message or f"(status {status} and nothing else)"
    if status >= 500 or status in _TRANSIENT_STATUS:
        raise TransientTeacherError(
            f"{status} {message}",
            _retry_after(answer.headers),
            overload=status in _OVERLOAD_STATUS,
        )
    kind = refusal_kind(f"{code} {message}") if status in (400, 413, 422) else None
    if kind is not None:
        return Refusal(kind, message)
    raise FinalTeacherError(f"the teacher answered {status}: {message}")


def _said(content: bytes) -> tuple[str, str]:
    """The code and the message of an error, as far as there are any."""
    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    error = body.get("error", body) if isinstance(body, dict) else body
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str) or not message:
        # Servers that keep to no schema: what they said is better than the bare status.
        message = " ".join(text.split())[:500]
    return str(code or ""), message[:2000]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / per_second
        except ValueError:
            return _seconds_until(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    return None


def _seconds_until(date: str) -> float | None:
    import time
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


def _message(exc: openai.APIStatusError) -> str:
    return _said(exc.response.content)[1] or str(exc)


def _cause(exc: BaseException) -> str:
    deepest: BaseException = exc
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    name = type(deepest).__name__
    text = str(deepest).strip()
    return f"{name}: {text}"[:300] if text and text != name else str(exc) or name
