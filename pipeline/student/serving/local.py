"""A student that answers in this process, through Transformers: what vLLM cannot serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records import Completion, Refusal, Usage
from pipeline.run.requests import TeacherRequest
from pipeline.student.serving.requests import SCORED, ScoreRequest, TokenRequest, write_logprobs

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class LocalStudent:
    """Answers a student's requests; a teacher to the driver. One at a time: the model is one."""

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
    ) -> None:
        """
        Args:
            max_length: longest prompt and answer together, in tokens; None: what the model says.
        """
        self._model: Any = model
        self._tokenizer = tokenizer
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None:  # virtual tokens take positions, too
            adapters = getattr(self._model, "peft_config", {}).values()
            limit -= max(
                (getattr(one, "num_virtual_tokens", 0) or 0 for one in adapters), default=0
            )
        self._max_length = min(filter(None, (max_length, limit)), default=None)
        self._lock = asyncio.Lock()

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Answer or score one request."""
        if not isinstance(request, TokenRequest):
            raise TypeError("a student is asked by token ids")
        length = len(request.token_ids) + request.max_tokens()
        if self._max_length is not None and length > self._max_length:
            return Refusal("context_length", f"{length} tokens, the model knows {self._max_length}")
        async with self._lock:
            if isinstance(request, ScoreRequest):
                return await asyncio.to_thread(self._score, request)
            return await asyncio.to_thread(self._answer, request)

    def _score(self, request: ScoreRequest) -> Completion:
        values = response_logprobs(self._model, request.token_ids, request.start)
        usage = Usage(len(request.token_ids), 0)
        return Completion(write_logprobs(values), SCORED, usage, request.parameters["model"])

    def _answer(self, request: TokenRequest) -> Completion:
        import torch

        device = next(self._model.parameters()).device
        ids = torch.tensor([request.token_ids], device=device)
        ends = list(request.parameters["stop_token_ids"])
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.max_tokens(),
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=ends,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        answer = made[0, ids.shape[1] :].tolist()
        is_ended = bool(answer) and answer[-1] in ends
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        usage = Usage(len(request.token_ids), len(answer))
        reason = "stop" if is_ended else "length"
        return Completion(str(text), reason, usage, request.parameters["model"])


def response_logprobs(model: Any, token_ids: Sequence[int], start: int) -> list[float]:
    """Log-probabilities of the tokens from `start` on, each given all before it.

    A method that puts virtual tokens before the prompt gives logits for them too: those are first.
    """
    import torch

    ids = torch.tensor([list(token_ids)], device=next(model.parameters()).device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        logits = logits[0, -len(token_ids) :][start - 1 : -1]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        values: list[float] = logprobs.gather(1, ids[0, start:, None])[:, 0].tolist()
    return values
