"""How a text becomes tokens: `rouge` (the default), `multilingual`, or a function of yours."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from unicodedata import normalize

from pipeline.errors import UsageError

_ROUGE_TOKEN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer with the name and version that are stored with a pool.

    `split` maps a text to its tokens, any hashable values; it must always answer the same for the
    same text. Two pools can only be mixed if both name and version are equal, so change the version
    whenever a change of the function can change a single token.
    """

    name: str
    version: str
    split: Callable[[str], list[Any]]


def rouge_tokens(text: str) -> list[str]:
    """Split like `rouge_score`'s default tokenizer: lower-case runs of ASCII letters and digits.

    Everything else separates, so that a text in another script has few or no tokens.
    """
    return _ROUGE_TOKEN.findall(text.lower())


@cache
def _multilingual_pattern() -> Any:
    import regex  # type: ignore[import-untyped]

    by_character = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}]"
    by_cluster = r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    word = r"[\p{L}\p{N}]"
    return regex.compile(
        rf"(?V1)[{by_character}&&{word}]\p{{M}}*"
        rf"|(?=[{by_cluster}&&{word}])\X"
        rf"|[{word}--{by_character}--{by_cluster}]"
        rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{by_character}&&{word}]--{by_cluster}]*"
    )


def multilingual_tokens(text: str) -> list[str]:
    """Split a text in any script, after NFKC and lower-casing.

    Each Han, Hiragana or Katakana character is a token (with its combining marks); Thai, Lao, Khmer
    and Burmese, which put no space between words, go by grapheme cluster; other scripts by runs of
    letters, digits and combining marks. On ASCII the tokens are those of `rouge_tokens`.
    """
    if text.isascii():
        return rouge_tokens(text)
    tokens: list[str] = _multilingual_pattern().findall(normalize("NFKC", text).lower())
    return tokens


_BUILT_IN = {
    # 0.1.2 is the version of rouge_score whose tokens these are.
    "rouge": Tokenizer("rouge", "0.1.2", rouge_tokens),
    "multilingual": Tokenizer("multilingual", "1", multilingual_tokens),
}


def resolve_tokenizer(tokenizer: str | Tokenizer | Callable[[str], Iterable[Any]]) -> Tokenizer:
    """Return the tokenizer of that name, or wrap a function.

    A function's name is its module and qualified name, its version its attribute `version` ("0"
    where it has none). Raises UsageError for an unknown name.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if isinstance(tokenizer, str):
        if tokenizer in _BUILT_IN:
            return _BUILT_IN[tokenizer]
        raise UsageError(
            f"Unknown novelty tokenizer {tokenizer!r}: give 'rouge', 'multilingual' or a function."
        )
    split = tokenizer
    name = getattr(split, "name", None)
    if name is None:
        kind = split if hasattr(split, "__qualname__") else type(split)
        name = f"{kind.__module__}.{kind.__qualname__}"
    return Tokenizer(str(name), str(getattr(split, "version", "0")), lambda text: list(split(text)))


def has_letters(text: str) -> bool:
    """Tell whether a text has at least one letter of any script."""
    return any(map(str.isalpha, text))
