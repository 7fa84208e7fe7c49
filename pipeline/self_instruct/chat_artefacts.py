"""What chat models wrap around an answer, and how it comes off.

Self-Instruct was published for a base model that continues a prompt; nothing here is in the paper
or in the released code. Every function returns a text that shows no such artefact as it is, so that
the published parsing sees exactly what it was written for.
"""

import re

_REASONING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_END_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_LONGEST_END_TOKEN = 24  # characters
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)
_BARE_FENCE = re.compile(r"\n[ \t]*```[ \t]*\Z")
_RULE = re.compile(r"\n[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*\Z")
# Neither end may be blank or a mark: '______ is a river.' is a gap to fill, not bold text.
_EMPHASIS = re.compile(
    r"(?P<mark>\*\*|__)(?=[^\s*_])(?P<inner>.+?)(?<=[^\s*_])(?P=mark)(?![*_])", re.DOTALL
)

# An interjection needs punctuation after it: 'Great Britain has ...' is no greeting.
_INTERJECTION = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great|alright|no problem|gladly"
    r"|understood)\s*(?:[!,.:;\u2013\u2014-]|here\b)"
    r"|(?:i'd|i\u2019d|i would|i'll|i\u2019ll) (?:be )?(?:happy|glad)\b|happy to help\b"
    r"|好的|当然",
    re.IGNORECASE,
)
_ANNOUNCEMENT = re.compile(
    r"(?:here(?:'s|\u2019s| is| are)|below (?:is|are)|these are|the following (?:is|are))\b"
    r"[^\n]*\b(?:task|instruction|prompt|idea|example|instance|input|label)s?\b"
    r"|以下是",
    re.IGNORECASE,
)
_CLOSING_REMARK = re.compile(
    r"(?:please )?let me know\b|i hope\b|hope (?:this|these|that)\b|feel free\b|would you like\b"
    r"|do you (?:want|need)\b|if you(?:'d|\u2019d| would)? (?:like|need|want)\b"
    r"|these (?:tasks|instructions|examples|instances)\b|is there anything\b",
    re.IGNORECASE,
)
_ABOUT_THE_ANSWER = re.compile(
    r"\b(?:tasks?|instructions?|examples?|instances?|variations?)\b", re.IGNORECASE
)
_LONGEST_PREAMBLE = 400  # characters; anything longer is content, whatever it begins with


def strip_envelope(text: str) -> str:
    """Take off a leading `<think>` block and end tokens that the server left in."""
    text = _REASONING.sub("", text, count=1)
    # `</s>` also closes struck-out HTML: it is an end token only where nothing opened it.
    html = "<s>" in text
    content = end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        if text.endswith("|>", 0, end):
            start = text.rfind("<|", max(0, end - _LONGEST_END_TOKEN), end)
            if start < 0 or _END_TOKEN.fullmatch(text, start, end) is None:
                return text[:content]
        elif text.endswith("</s>", 0, end) and not html:
            start = end - len("</s>")
        else:
            return text[:content]
        content = end = start


def is_cut_reasoning(text: str) -> bool:
    """Whether `text` is a `<think>` block that was cut before its end, so that no answer follows."""
    return text.lstrip().startswith("<think>") and "</think>" not in text


def strip_outer_fence(text: str, first_line: re.Pattern[str]) -> str:
    """Remove a code fence around the whole answer, with the preamble that may precede it.

    Only a fence that opens right before a line matched by `first_line` counts, and its closing
    line only where it is left without a partner: fenced code inside the answer is content.
    """
    opening = _FENCE.search(text)
    if opening is None:
        return text
    head, body = text[: opening.start()], text[opening.end() :].lstrip()
    if head.strip() and not is_preamble(head, colon_suffices=False):
        return text
    if first_line.match(body) is None:
        return text
    body = body.rstrip()
    closing = _BARE_FENCE.search(body)
    if closing is not None and len(_FENCE.findall(body)) % 2 == 1:
        body = body[: closing.start()]
    return body


def is_preamble(text: str, *, colon_suffices: bool) -> bool:
    """Whether `text` only announces what follows it ('Sure! Here are seven more tasks:').

    `colon_suffices` is for a caller that knows from the numbering that the content starts
    afterwards; without it the text must also open the way chat models do.
    """
    words = text.strip().strip("*_#>` \t\n")
    if not words or len(words) > _LONGEST_PREAMBLE:
        return False
    if colon_suffices and words.endswith((":", "\uff1a")):
        return True
    opens = _INTERJECTION.match(words) or _ANNOUNCEMENT.match(words)
    return opens is not None and words.endswith((":", "\uff1a", ".", "!", "。", "\uff01"))


def drop_closing_remark(text: str, *, about_the_answer: bool) -> str:
    """Cut a last paragraph that talks to the reader ('Let me know if you need more!').

    `about_the_answer` demands that it also speak of tasks or examples: an e-mail that a task asked
    for may well end in 'Let me know if you have questions.'
    """
    body, gap, last = text.rstrip().rpartition("\n\n")
    last = last.strip().lstrip("*_")
    if not gap or not body.strip() or _CLOSING_REMARK.match(last) is None:
        return text
    if about_the_answer and _ABOUT_THE_ANSWER.search(last) is None:
        return text
    return body


def drop_trailing_rule(text: str) -> str:
    """Cut a markdown rule (`---`) that ends the text on a line of its own."""
    return _RULE.sub("", text.rstrip())


def unwrap_leading_emphasis(text: str) -> str:
    """Take the bold marks off the words that `text` starts with; marks further inside stay."""
    match = _EMPHASIS.match(text)
    return match["inner"] + text[match.end() :] if match else text
