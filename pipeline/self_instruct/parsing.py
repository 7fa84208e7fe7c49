"""Reading the teacher's completions in Self-Instruct (arXiv 2212.10560, steps 1 to 4).

Pure functions from text to values: none raises on any text, none needs a model. Each implements the
rule of the released code (`bootstrap_instructions.py`, `identify_clf_or_not.py`,
`prepare_for_finetuning.py`) and first takes off what chat models put around an answer (see
`chat_artefacts`). On text in the published style the result is the published one, oddities
included: tasks that run together on one line stay together, and the word `Example` separates
instances wherever it stands.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.self_instruct import chat_artefacts

Numbering = Literal["plain", "task"]
"""How prompts number instructions: `9.` (released code) or `Task 9:` (paper, table 5)."""


@dataclass(frozen=True, slots=True)
class ParsedInstance:
    """One example of a task as the teacher wrote it, before any filter; `input` may be empty."""

    input: str
    output: str


# ---- step 1: instructions ---------------------------------------------------------------------

_PUBLISHED_SEPARATOR: Final[dict[Numbering, re.Pattern[str]]] = {
    "plain": re.compile(r"\n\d+\s?\. "),
    "task": re.compile(r"\nTask\s?\d+\s?: "),
}
# Any line start that could be an item's label: '9.', '9)', '(9)', '**9.**', '- 9.', '### Task 9',
# '9、'. It matches wherever a published separator does.
_LABEL: Final = re.compile(
    r"""(?:\A|\n)[ \t]*
        (?:\#{1,6}[ \t]+)?(?:[-*+•][ \t]+)?(?P<bold>\*\*|__)?
        (?: (?:task|instruction|prompt)\s?[ \t]*\#?(?P<named>\d+)(?:\*\*|__)?
            (?: \s?[.:)\uff1a] | [ \t]+[\u2013\u2014-](?=[ \t]) | (?=[ \t]*(?:\n|\Z)) )
          | [(\[]?(?P<bare>\d+)(?:\*\*|__)?\s?[.:)\]、\uff0e\uff1a\uff09]
        )
        (?P<close>\*\*|__)?(?!\d)[ \t]*""",
    re.VERBOSE | re.IGNORECASE,
)
_BULLET: Final = re.compile(r"^(?P<indent>[ \t]*)[-*+•][ \t]+", re.MULTILINE)
_LEFTOVER: Final = re.compile(r"\n[ \t]*(?P<word>Task[ \t]*)?(?P<number>\d*)[ \t]*\Z")
_LIST_LINE: Final = re.compile(
    r"(?:\#{1,6}[ \t]+|[-*+•][ \t]+|\*\*|__)*(?:(?:task|instruction|prompt)[ \t]*)?[(\[]?\d"
    r"|[-*+•][ \t]",
    re.IGNORECASE,
)
_MOST_DIGITS = 9  # a longer run of digits is no item number (and may be too long for int())


def parse_instructions(
    text: str, *, first_number: int, numbering: Numbering, published_casing: bool
) -> list[str]:
    """Split a completion of the generation prompt into instructions.

    The prompt ends in the bare label of item `first_number`, so the text starts inside that item.
    Published rule: split at newline, digits, at most one whitespace, period, space, whatever the
    number is; collapse whitespace; `published_casing` applies `str.capitalize()`, which lower-cases
    names. (A completion cut by length is discarded whole by the caller.)

    Beyond it, a label in another style ('10)', '**10.**', 'Task 10:') splits if it carries the
    number that is due; an answer may restart at 1 or be a bullet list; a preamble is dropped.

    Every piece is returned, also those that a filter will reject, so that an item's index is its
    address; an empty piece is an empty string. Only a blank last piece is left out.
    """
    body = chat_artefacts.strip_outer_fence(chat_artefacts.strip_envelope(text), _LIST_LINE)
    body = chat_artefacts.drop_closing_remark(body, about_the_answer=False)
    pieces = _split_numbered(body, first_number, numbering) or _split_bullets(body) or [body]
    instructions = [" ".join(_undress(piece).split()) for piece in pieces]
    if instructions[-1] == "":
        instructions.pop()
    return [item.capitalize() for item in instructions] if published_casing else instructions


def _split_numbered(body: str, first_number: int, numbering: Numbering) -> list[str]:
    """The pieces between the labels, or an empty list if the text holds no label."""
    separator = _PUBLISHED_SEPARATOR[numbering]
    pieces: list[str] = []
    start, last, open_bold, labelled = 0, first_number, "", False
    for match in _LABEL.finditer(body):
        digits = match["named"] or match["bare"]
        number = int(digits) if len(digits) <= _MOST_DIGITS else -1
        published = separator.match(body, match.start())
        if not labelled and _opens_list(body, match, number, first_number):
            pass  # what precedes the list is no item
        elif published or number == last + 1:
            pieces.append(_close_bold(body[start : match.start()], open_bold))
        else:
            continue
        start = published.end() if published else match.end()
        open_bold = "" if match["close"] else match["bold"] or ""
        last, labelled = number, True
    rest = _LEFTOVER.search(body, start)
    if rest and _is_leftover(rest, last, numbering):
        body, labelled = body[: rest.start()], True
    return [*pieces, _close_bold(body[start:], open_bold)] if labelled else []


def _opens_list(body: str, match: re.Match[str], number: int, first_number: int) -> bool:
    """Whether the first label starts the answer's own list, so that what precedes is not item one.

    Its number says so: the item that was due, or a fresh start at 1. A published answer goes on
    with `first_number + 1`, or lists things inside its first item ('Rank these:', '1. whale');
    the latter is why a restart needs a preamble that opens the way chat models do.
    """
    head = body[: match.start()]
    if not head and not match[0].startswith("\n") and number == first_number + 1:
        return True  # miscounted; after a newline it would follow an empty first item
    if number not in (first_number, 1):
        return False
    is_due = number == first_number
    return not head.strip() or chat_artefacts.is_preamble(head, colon_suffices=is_due)


def _is_leftover(match: re.Match[str], last: int, numbering: Numbering) -> bool:
    """Whether the text ends in the bare start of the next label, as stop strings leave it."""
    digits: str = match["number"]
    if digits:
        return len(digits) <= _MOST_DIGITS and int(digits) == last + 1
    return numbering == "task" and match["word"] is not None


def _split_bullets(body: str) -> list[str]:
    """The top-level bullets of an answer that is nothing but a bullet list, or an empty list."""
    first = _BULLET.search(body)
    if first is None:
        return []
    head = body[: first.start()]
    if head.strip() and not chat_artefacts.is_preamble(head, colon_suffices=False):
        return []
    bullets = [m for m in _BULLET.finditer(body) if len(m["indent"]) <= len(first["indent"])]
    ends = [m.start() for m in bullets[1:]] + [len(body)]
    return [body[m.end() : end] for m, end in zip(bullets, ends, strict=True)]


def _close_bold(piece: str, mark: str) -> str:
    """Drop the mark that closes bold text opened in the item's label ('**9. Write ...**')."""
    return piece.replace(mark, "", 1) if mark else piece


def _undress(piece: str) -> str:
    return chat_artefacts.unwrap_leading_emphasis(chat_artefacts.drop_trailing_rule(piece).strip())


# ---- step 2: is it a classification task? -----------------------------------------------------

_CHATTY_YES: Final = re.compile(
    r"(?:(?:final )?answer\s*:|is it classification\s*\?)?[\s*_\"'`]*"
    r"yes\b(?!\W{0,4}(?:(?:or|and)\s+)?no\b)",
    re.IGNORECASE,
)


def is_classification(text: str) -> bool | None:
    """Read the answer to 'Is it classification?'; None if there is no answer in the text.

    Published (step 2, section 2.2): `Yes`, `yes` or `YES` alone is yes, anything else is no.
    Beyond it, an answer that starts with yes and goes on ('Yes.', '**Yes**', 'Yes, because ...')
    is yes too, unless no is offered beside it ('Yes or No'). An empty answer says nothing about the
    task, nor does reasoning that was cut before its end: None, which a run takes for no, as the
    published code did, and warns of where it is usual.
    """
    answer = chat_artefacts.strip_envelope(text).strip()
    if not answer or chat_artefacts.is_cut_reasoning(answer):
        return None
    return _CHATTY_YES.match(answer.lstrip("*_\"'`# \t\n")) is not None


# ---- steps 3 and 4: instances -----------------------------------------------------------------

# Possessive quantifiers: plain ones match the same, but take quadratic time on runs of blanks.
_EXAMPLE: Final = re.compile(r"Example\s?\d*\.?")
_OUTPUT: Final = re.compile(r"Output\s*+\d*+\s*+:")
_INPUT: Final = re.compile(r"Input\s*+\d*+\s*+:")
_CLASS_LABEL = "Class label:"

# A single # opens a comment in code ('# Output: 3') more often than a heading.
_MARKER: Final = re.compile(
    r"""^[ \t]*
        (?P<heading>\#{2,6}[ \t]+)?(?P<bullet>[-*+•][ \t]+)?(?P<bold>\*\*|__)?
        (?P<name>Example|Input|Output|Class\ [Ll]abel)[ \t]?(?P<number>\d*)
        [ \t]*(?P<point>[.:)]?)(?P<close>\*\*|__)?(?P<late>:?)
        (?P<blank>[ \t]*$)?
        (?P<inner>(?<!\n)[^\n*]*(?:\*\*|__)[ \t]*$)?""",
    re.VERBOSE | re.MULTILINE,
)
_FIELDS: Final = frozenset({"Example", "Input", "Output"})
_LABELS: Final = frozenset({"Class label", "Class Label"})
_FIRST_LINE: Final = re.compile(
    r"(?:\#{1,6}[ \t]+|[-*+•][ \t]+|\*\*|__)*(?:Example|Input|Output|Class [Ll]abel)\b"
)
_CONTENT_START: Final = re.compile(
    r"^[ \t]*(?:Example[ ]?\d|(?:Input|Output)\s*+\d*+\s*+:)", re.MULTILINE
)
_BOLD_FIELD: Final = re.compile(
    r"^(?P<mark>\*\*|__)(?P<name>[^\W\d_][\w ]{0,40})(?::(?P=mark)|(?P=mark):)[ \t]*", re.MULTILINE
)
# Dashes right below text, or more than three of them, underline a table or belong to a drawing.
_RULE: Final = r"\n[ \t]*\n[ \t]*---[ \t]*"
_RULE_BEFORE_EXAMPLE: Final = re.compile(_RULE + r"(?=\s*\n[ \t]*Example[ ]?\d)")
_RULE_BEFORE_LABEL: Final = re.compile(_RULE + r"(?=\s*\nClass label:)")
_EXAMPLE_BEFORE_LABEL: Final = re.compile(
    r"^[ \t]*(?:\#{1,6}[ \t]+)?(?:\*\*|__)?Example[ ]?\d+[.:]?(?:\*\*|__)?:?"
    r"\s*+(?<=\n)Class label:",
    re.MULTILINE,
)


def parse_input_first(text: str, *, truncated: bool) -> list[ParsedInstance]:
    """Read the instances of a generation task (steps 3 and 4, section 2.2; input before output).

    Published rule: the word `Example` with optional number and period separates instances; without
    it a text with an `Output:` marker is one instance, and any other text none. The input is what
    precedes the first `Output:`, less a leading `Input:` (other field names stay); the output goes
    to the next `Output:` or `Input:`. An example without the marker is all output. `truncated`, the
    answer was cut by length, removes the last instance.
    """
    original = _trimmed(text)
    body = _RULE_BEFORE_EXAMPLE.sub("", _published_markers(original, _FIELDS))
    start = _CONTENT_START.search(body)
    if start and chat_artefacts.is_preamble(body[: start.start()], colon_suffices=False):
        body = body[start.start() :]
    body = _without_goodbye(body, original)
    if _EXAMPLE.search(body):
        pieces = [piece for piece in _EXAMPLE.split(body) if piece.strip()]
    elif _OUTPUT.search(body):
        pieces = [body]
    else:
        return []
    instances = [_input_and_output(piece) for piece in pieces]
    return instances[:-1] if truncated else instances


def parse_output_first(text: str, *, truncated: bool) -> list[ParsedInstance]:
    """Read the instances of a classification task (steps 3 and 4; label before input).

    Published rule: every `Class label:` starts an instance, what precedes the first is dropped;
    the first line is the label, hence the output, and the remaining lines are the input, field
    names included. `truncated`, the answer was cut by length, removes the last instance.
    """
    original = _trimmed(text)
    body = _RULE_BEFORE_LABEL.sub("", _published_markers(original, _LABELS))
    if _EXAMPLE_BEFORE_LABEL.search(body[: body.find(_CLASS_LABEL) + len(_CLASS_LABEL)]):
        # Numbered from the first label on: the numbers belong to no input.
        body = _EXAMPLE_BEFORE_LABEL.sub(_CLASS_LABEL, body)
    instances: list[ParsedInstance] = []
    for piece in _without_goodbye(body, original).split(_CLASS_LABEL)[1:]:
        label, _, rest = piece.strip().partition("\n")
        output = chat_artefacts.unwrap_leading_emphasis(label.strip())
        instances.append(ParsedInstance(input=_plain_fields(rest.strip()), output=output))
    return instances[:-1] if truncated else instances


def _input_and_output(piece: str) -> ParsedInstance:
    before, *after = _OUTPUT.split(piece, maxsplit=2)
    output = after[0] if after else before
    given = before.strip() if after else ""
    leading = _INPUT.match(given)
    if leading:
        given = given[leading.end() :].strip()
    return ParsedInstance(
        input=_plain_fields(given), output=_INPUT.split(output, maxsplit=1)[0].strip()
    )


def _trimmed(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _published_markers(text: str, names: frozenset[str]) -> str:
    """The text with the named markers as the published prompts write them, and no outer fence."""
    body = chat_artefacts.strip_outer_fence(chat_artefacts.strip_envelope(text), _FIRST_LINE)
    fields = (m for m in _MARKER.finditer(body) if m["name"] in names and m["name"] != "Example")
    first_field = next(fields, None)
    # A bulleted 'Output:' is a marker only where markers are bulleted from the first one on:
    # otherwise it is a line of some list inside the content.
    bulleted = first_field is not None and first_field["bullet"] is not None
    return _MARKER.sub(
        lambda m: _published_marker(m, bulleted) if m["name"] in names else m[0], body
    )


def _without_goodbye(body: str, original: str) -> str:
    # Only an answer that showed chat already: elsewhere such a paragraph may be content.
    if body == original:
        return body
    return chat_artefacts.drop_closing_remark(body, about_the_answer=True)


def _published_marker(match: re.Match[str], bulleted: bool) -> str:
    """A marker line's start without markdown; the match itself if it is plain or no marker."""
    whole: str = match[0]
    dressed = bool(match["heading"] or match["bold"] or (match["bullet"] and bulleted))
    has_colon = match["point"] == ":" or match["late"] == ":"
    rest: str = match["inner"] or ""
    if rest:
        if match["bold"] is None or match["close"]:
            return whole
        rest = rest.rstrip(" \t*_")  # '**Output: Positive**'
    if match["name"] == "Example":
        if not match["number"] or not (dressed or has_colon or match["point"] == ")"):
            return whole
        return f"Example {match['number']}\n{rest}"
    if not (dressed or match["name"] == "Class Label"):
        return whole
    if not has_colon and (match["blank"] is None or rest):
        return whole
    name = "Class label" if match["name"].startswith("Class") else match["name"]
    # The published class label has no number.
    number = "" if name == "Class label" else match["number"]
    return f"{name}{' ' + number if number else ''}:{' ' + rest.strip() if rest else ''}"


def _plain_fields(text: str) -> str:
    """An input whose first field name is bold ('**Sentence:** ...') with plain field names."""
    return _BOLD_FIELD.sub(r"\g<name>: ", text).strip() if _BOLD_FIELD.match(text) else text
