"""Prompt templates: files under prompts/, or a directory of the user's own, rendered with Jinja2.

Each prompt has two files, `NAME.completion.j2` for base models and `NAME.chat.j2` for chat models.
A chat template has a block `user` and may have a block `system`. The manifest keeps the texts, so
that later edits touch later runs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.errors import UsageError
from pipeline.run.requests import Message

Api = Literal["completions", "chat"]
_SUFFIX: Mapping[Api, str] = {"completions": "completion", "chat": "chat"}


def load_templates(names: Iterable[str], api: Api, directory: Path | None) -> dict[str, str]:
    """Texts of the templates, by file name, the user's before the bundled.

    Raises:
        UsageError: the directory does not exist, or a file in it cannot be read.
    """
    if directory is not None:
        _check_directory(directory)
    texts = {}
    for name in names:
        file_name = f"{name}.{_SUFFIX[api]}.j2"
        own = directory / file_name if directory else None
        if own is not None and own.exists():
            try:
                texts[file_name] = own.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise UsageError(f"prompt {own}: {exc}") from exc
        else:
            texts[file_name] = (resources.files("prompts") / file_name).read_text("utf-8")
    return texts


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise UsageError(f"prompts.directory: {directory} is not a directory")
    known = {entry.name for entry in resources.files("prompts").iterdir()}
    for path in sorted(directory.glob("*.j2")):
        if path.name not in known:
            names = ", ".join(sorted(name for name in known if name.endswith(".j2")))
            raise UsageError(f"prompts.directory: {path} is no prompt; the prompts are {names}")


class PromptBook:
    """Templates of one run, compiled once."""

    def __init__(self, texts: Mapping[str, str], api: Api) -> None:
        """
        Args:
            texts: template texts by file name, as `load_templates` gives them; those of another kind
                of API are left out.

        Raises:
            UsageError: a template is not valid Jinja2, or a chat template has no block `user`.
        """
        self._api = api
        self._environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        # The same request must be the same text whenever it is made.
        del self._environment.filters["random"]
        del self._environment.globals["lipsum"]
        self._templates: dict[str, Template] = {}
        for file_name, text in texts.items():
            if self.api_of(file_name) != api:
                continue
            try:
                self._templates[file_name] = self._environment.from_string(text)
            except TemplateSyntaxError as exc:
                raise UsageError(f"prompt {file_name}, line {exc.lineno}: {exc.message}") from exc
            if api == "chat" and "user" not in self._templates[file_name].blocks:
                raise UsageError(
                    f"prompt {file_name}: a chat template needs a block named 'user' "
                    "({% block user %}...{% endblock %})"
                )

    @staticmethod
    def api_of(file_name: str) -> Api:
        """The kind of API that a template is for, by its file name."""
        return "chat" if file_name.endswith(f".{_SUFFIX['chat']}.j2") else "completions"

    def render(self, name: str, **values: Any) -> str | tuple[Message, ...]:
        """The prompt of one request: a text, or messages for a chat API.

        Raises:
            UsageError: the template uses a variable it is not given, or fails otherwise.
        """
        file_name = f"{name}.{_SUFFIX[self._api]}.j2"
        template = self._templates[file_name]
        try:
            if self._api == "completions":
                return template.render(values)
            return self._messages(template, values)
        except Exception as exc:  # a template is a program of the user's: it can raise anything
            raise UsageError(
                f"prompt {file_name}: {exc}; it is given {', '.join(sorted(values))}"
            ) from exc

    def check(self, name: str, shown: str, **values: Any) -> None:
        """Render once, before anything is started.

        Args:
            shown: a text among the values that the prompt must hold.

        Raises:
            UsageError: the template fails, or leaves out what it is to ask about.
        """
        prompt = self.render(name, **values)
        texts = [prompt] if isinstance(prompt, str) else [item.content for item in prompt]
        if not any(shown in text for text in texts):
            raise UsageError(
                f"prompt {name}.{_SUFFIX[self._api]}.j2 does not show what it is given: a text of "
                f"{' or '.join(sorted(values))} is missing from what it renders"
            )

    def _messages(self, template: Template, values: dict[str, Any]) -> tuple[Message, ...]:
        context = template.new_context(values)
        rendered = [
            Message(role, "".join(template.blocks[role](context)).strip())
            for role in self._roles
            if role in template.blocks
        ]
        return tuple(message for message in rendered if message.content)

    @cached_property
    def _roles(self) -> tuple[Literal["system", "user"], ...]:
        return ("system", "user")
