"""Examples in the OpenAPI document: of every operation what is sent and what is answered."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def add_examples(document: dict[str, Any]) -> None:
    """Put the examples of `examples.json`, by operation id, into an OpenAPI document."""
    text = resources.files("api").joinpath("examples.json").read_text("utf-8")
    examples = json.loads(text)
    for operations in document["paths"].values():
        for operation in operations.values():
            known = examples.get(operation["operationId"], {})
            for parameter in operation.get("parameters", []):
                if parameter["name"] in known.get("parameters", {}):
                    parameter["example"] = known["parameters"][parameter["name"]]
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                if media_type in known.get("request", {}):
                    content["example"] = known["request"][media_type]
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    if media_type == "application/problem+json":
                        content["example"] = _problem(examples, int(status))
                    elif media_type in known.get("answer", {}):
                        content["example"] = known["answer"][media_type]


def _problem(examples: dict[str, Any], status: int) -> Any:
    example = dict(examples["problems"].get(str(status), examples["problems"]["422"]))
    return {
        **example, "status": status, "type": f"urn:evoloom:problem:{example['code']}",
        "instance": "/v1/seed-tasks", "request_id": "5a1ff439f0e0058a",
        "errors": example.get("errors", []),
    }  # fmt: skip
