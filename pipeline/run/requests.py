"""One request to the teacher: what is sent, and the hash that proves a journaled answer is its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.records import Address

# Characters of English text and code to a token are 3 to 5; an estimate that is a little high
# keeps a cap from being overrun by the requests in flight.
_BYTES_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat request."""

    role: Literal["system", "user"]
    content: str


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What one address asks.

    `prompt` is a text for `/v1/completions`, messages for `/v1/chat/completions`; `parameters` are
    the request's other fields, the sampling seed among them.
    """

    address: Address
    prompt: str | tuple[Message, ...]
    parameters: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """The JSON body to send."""
        if isinstance(self.prompt, str):
            return {"prompt": self.prompt, **self.parameters}
        messages = [{"role": item.role, "content": item.content} for item in self.prompt]
        return {"messages": messages, **self.parameters}

    def prompt_text(self) -> str:
        """The whole prompt as one text."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(f"{item.role}: {item.content}" for item in self.prompt)

    def prompt_hash(self) -> str:
        """Hash of the prompt alone."""
        return _hash(self.prompt_text())

    def request_hash(self) -> str:
        """Hash of prompt and parameters without the sampling seed."""
        parameters = {key: value for key, value in self.parameters.items() if key != "seed"}
        return _hash(self.prompt_hash() + json.dumps(parameters, sort_keys=True))

    def estimated_prompt_tokens(self) -> int:
        """A cautious estimate, for caps: a token for every three bytes of the prompt."""
        return len(self.prompt_text().encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN + 1

    def model(self) -> str:
        """The model that is asked."""
        return str(self.parameters.get("model", ""))

    def max_tokens(self) -> int:
        """The longest answer asked for, in tokens."""
        return int(self.parameters.get("max_tokens", 0))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
