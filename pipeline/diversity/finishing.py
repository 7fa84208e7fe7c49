"""Part of speech and lemma of parsed tokens, remembered.

The model derives both from a token's form, tag and dependency, by rules that take half of the time
of a parse. Here the rules run once for each combination; the answers are theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

_Key: TypeAlias = tuple[int, int, int]
# The few rules that look at two tokens ('ain't', 'let's', 'there is') begin or end in these.
_IN_CONTEXT = frozenset({"ai", "gon", "na", "ta", "got", "let", "c'm", "y", "y'"})
_MOST_REMEMBERED = 500_000


class Finisher:
    """Gives the tokens of a document `pos` and `lemma`, as the model's own components would."""

    def __init__(self, language: Language) -> None:
        self._components = [language.get_pipe("attribute_ruler"), language.get_pipe("lemmatizer")]
        # Part of speech and lemma; None where the rules must see the document.
        self._known: dict[_Key, tuple[int, int] | None] = {}

    def finish(self, doc: Doc) -> Doc:
        keys: list[_Key] = [tuple(row) for row in doc.to_array(["ORTH", "TAG", "DEP"]).tolist()]
        if len(self._known) > _MOST_REMEMBERED:
            self._known.clear()
        missing = {key: i for i, key in enumerate(keys) if key not in self._known}
        if missing:
            self._learn(doc, missing)
        answers = [self._known[key] for key in keys]
        if None in answers:
            return self._run(doc)
        for token, answer in zip(doc, answers, strict=True):
            assert answer is not None
            token.pos, token.lemma = answer
        return doc

    def _learn(self, doc: Doc, missing: dict[_Key, int]) -> None:
        from spacy.tokens import Doc

        tokens = [doc[i] for i in missing.values()]
        alone = Doc(
            doc.vocab,
            words=[token.text for token in tokens],
            tags=[token.tag_ for token in tokens],
            deps=[token.dep_ for token in tokens],
            heads=list(range(len(tokens))),
        )
        for key, token in zip(missing, self._run(alone), strict=True):
            in_context = token.lower_ in _IN_CONTEXT or token.dep_ == "expl"
            self._known[key] = None if in_context else (token.pos, token.lemma)

    def _run(self, doc: Doc) -> Doc:
        for component in self._components:
            doc = component(doc)
        return doc
