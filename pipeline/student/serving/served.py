"""A student served by vLLM: its answers, its log-probabilities, its adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx2

from pipeline.errors import EvoloomError, UsageError
from pipeline.records import Completion, Refusal, Usage
from pipeline.run.requests import TeacherRequest
from pipeline.student.serving.requests import SCORED, ScoreRequest, write_logprobs
from pipeline.teacher.client import TeacherClient
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.failures import TransientTeacherError

RANKS: tuple[int, ...] = get_args(EngineSettings.model_fields["max_lora_rank"].annotation)
_LOAD_S = 120.0


class AdapterError(EvoloomError):
    """Raised when the engine does not take an adapter."""


class ServedStudent:
    """Answers a student's requests over HTTP; a teacher to the driver."""

    def __init__(self, client: TeacherClient, check: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            check: called after a failure; raises where the engine is gone for good.
        """
        self._client = client
        self._check = check

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once; see `TeacherClient.complete`. Raises what `check` raises."""
        try:
            return await self._send(request)
        except TransientTeacherError:
            self._check()
            raise

    async def _send(self, request: TeacherRequest) -> Completion | Refusal:
        if not isinstance(request, ScoreRequest):
            return await self._client.complete(request)
        answer = await self._client.post("/completions", request.body())
        return answer if isinstance(answer, Refusal) else _read_scores(answer, request)


def _read_scores(content: bytes, request: ScoreRequest) -> Completion:
    try:
        answer = json.loads(content)
        values = prompt_logprobs(answer, request.token_ids)[request.start - 1 :]
        usage = Usage(int(answer["usage"]["prompt_tokens"]), 0)
    except (ValueError, LookupError, TypeError) as exc:
        raise TransientTeacherError(f"the answer holds no prompt_logprobs ({exc})") from exc
    return Completion(write_logprobs(values), SCORED, usage, str(answer.get("model") or ""))


def prompt_logprobs(answer: dict[str, Any], token_ids: tuple[int, ...]) -> list[float]:
    """The log-probability of each token of a prompt but the first, from vLLM's answer.

    Raises:
        LookupError, ValueError: the answer holds none, or those of other tokens.
    """
    places = answer["choices"][0]["prompt_logprobs"]
    if len(places) != len(token_ids):
        raise ValueError(f"{len(places)} tokens scored, {len(token_ids)} sent")
    return [float(place[str(token)]["logprob"])
            for place, token in zip(places[1:], token_ids[1:], strict=True)]  # fmt: skip


def score_now(base_url: str, request: ScoreRequest) -> list[float]:
    """The response's log-probabilities, at once and without retries.

    Raises:
        AdapterError: the engine does not answer with them.
    """
    try:
        reply = httpx2.post(f"{base_url}/completions", json=request.body(), timeout=_LOAD_S)
        reply.raise_for_status()
        return prompt_logprobs(reply.json(), request.token_ids)[request.start - 1 :]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as exc:
        raise AdapterError(f"the engine at {base_url} scores no text: {exc}") from exc


def load_adapter(base_url: str, name: str, folder: Path) -> None:
    """Load a LoRA adapter into a running vLLM; it then answers under its name, next to its base.

    One that is loaded from this very folder is left as it is: somebody may be asking it.

    Raises:
        AdapterError: the engine refuses it; the message holds what it said.
    """
    path = str(folder.resolve())
    there = _loaded_from(base_url, name)
    if there == path:
        return
    if there is not None:
        unload_adapter(base_url, name)
    reply = _post(base_url, "load_lora_adapter", {"lora_name": name, "lora_path": path})
    if reply.status_code == 404:
        raise AdapterError(
            f"the engine at {base_url} loads no adapters: it was started without engine.enable_lora"
        )
    if reply.status_code != 200:
        raise AdapterError(f"the engine refuses adapter {name}: {_said(reply)}")


def unload_adapter(base_url: str, name: str) -> None:
    """Take an adapter out of a running vLLM; one that is not there is no error.

    Raises:
        AdapterError: the engine does not answer, or keeps it.
    """
    reply = _post(base_url, "unload_lora_adapter", {"lora_name": name})
    if reply.status_code not in (200, 404):
        raise AdapterError(f"the engine does not unload adapter {name}: {_said(reply)}")


def _loaded_from(base_url: str, name: str) -> str | None:
    """The folder that an adapter was loaded from; None where there is none of that name."""
    try:
        reply = httpx2.get(f"{base_url}/models", timeout=_LOAD_S)
        models = {model["id"]: model.get("root") for model in reply.json()["data"]}
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as exc:
        raise AdapterError(f"the engine at {base_url} lists no models: {exc}") from exc
    return str(models[name]) if name in models else None


def _post(base_url: str, route: str, body: dict[str, str]) -> httpx2.Response:
    try:
        return httpx2.post(f"{base_url}/{route}", json=body, timeout=_LOAD_S)
    except httpx2.HTTPError as exc:
        raise AdapterError(f"the engine at {base_url} does not answer: {exc}") from exc


def _said(reply: httpx2.Response) -> str:
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = reply.text
    return " ".join(str(message).split())[:500]


def adapter_rank(folder: Path) -> int:
    """The largest rank in a PEFT LoRA adapter.

    Raises:
        UsageError: the folder holds no adapter configuration.
    """
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_bytes())
        return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise UsageError(f"{path}: is no configuration of a LoRA adapter: {exc}") from exc


def fitting_rank(rank: int) -> int:
    """The smallest rank limit of vLLM that lets an adapter of this rank in.

    Raises:
        UsageError: vLLM serves none so large.
    """
    for limit in RANKS:
        if rank <= limit:
            return limit
    raise UsageError(f"an adapter of rank {rank} cannot be served: vLLM takes up to {RANKS[-1]}")
