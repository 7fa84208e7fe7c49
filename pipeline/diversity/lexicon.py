"""The words the mended rule knows by name; all in lower case, verbs as lemmas."""

from __future__ import annotations

# 'Try to guess', 'help me plan': the verb that follows is what is asked.
LEAD_INS = frozenset(
    {
        "try",
        "help",
        "start",
        "begin",
        "attempt",
        "proceed",
        "continue",
        "go",
        "aim",
        "need",
        "have",
        "ask",
        "want",
    }
)
# 'You need to', 'you have to', 'you ought to'.
OBLIGES = frozenset({"need", "have", "ought", "get"})
WISHES = frozenset({"need", "want", "like", "love", "wish", "require", "prefer"})
# 'You are asked to ...'. 'You are given ...' is context.
ASKED = frozenset(
    {
        "ask",
        "require",
        "suppose",
        "expect",
        "request",
        "instruct",
        "task",
        "tell",
        "challenge",
        "go",
        "assign",
    }
)
MODALS_OF_REQUEST = frozenset({"should", "must", "will", "shall"})
POLITE = frozenset({"can", "could", "would", "will"})
# 'The list should be sorted' asks; 'the list can be sorted' allows.
MODALS_OF_DUTY = frozenset({"should", "must", "shall"})
# 'Your job is to ...'
TASKS = frozenset(
    {
        "task",
        "job",
        "goal",
        "aim",
        "assignment",
        "challenge",
        "objective",
        "mission",
        "purpose",
        "role",
    }
)
# Verbs that set a scene, and ask only if nothing else does.
SCENE = frozenset(
    {
        "suppose",
        "imagine",
        "assume",
        "pretend",
        "consider",
        "act",
        "let",
        "note",
        "remember",
        "say",
        "see",
        "recall",
        "be",
    }
)
# 'Would you say that owls are shy?': a mere yes or no answers it.
OPINIONS = frozenset(
    {
        "say",
        "agree",
        "think",
        "believe",
        "prefer",
        "like",
        "want",
        "know",
        "see",
        "hear",
        "feel",
        "be",
        "have",
        "mind",
        "consider",
        "trust",
    }
)
# After a question these make something of their own; any other imperative says how to answer.
MAKING = frozenset(
    {"write", "create", "generate", "design", "compose", "draft", "build", "develop", "implement"}
)
PARTICLES = {
    "in": frozenset({"fill"}),
    "out": frozenset(
        {
            "find",
            "figure",
            "point",
            "carry",
            "pick",
            "list",
            "act",
            "fill",
            "write",
            "work",
            "print",
            "lay",
            "map",
            "sort",
        }
    ),
    "up": frozenset({"come", "make", "look", "set", "sum", "think", "draw", "clean", "split"}),
    "down": frozenset({"write", "break", "note", "list", "narrow"}),
    "together": frozenset({"put"}),
    "off": frozenset({"finish"}),
}
TO_PERSONS = frozenset(
    {"me", "us", "you", "him", "myself", "yourself", "yourselves", "everyone", "user"}
)
# Heads without content: the noun is what follows 'of'.
QUANTITIES = frozenset(
    {
        "all",
        "each",
        "any",
        "some",
        "most",
        "many",
        "few",
        "several",
        "both",
        "none",
        "either",
        "one",
        "every",
        "lot",
        "lots",
        "couple",
        "plenty",
        "bunch",
    }
)
EMPTY = frozenset(
    {
        "something",
        "anything",
        "everything",
        "nothing",
        "someone",
        "following",
        "yes",
        "no",
        "true",
        "false",
        "positive",
        "negative",
        "none",
        "yourself",
    }
)
PRONOUNS = frozenset(
    {
        "it",
        "them",
        "they",
        "these",
        "those",
        "this",
        "that",
        "each",
        "both",
        "all",
        "one",
        "ones",
        "any",
    }
)
# Of these only the members of a collection are meant.
MEMBERS_ONLY = frozenset({"each", "both", "one", "ones", "any"})
QUESTION_WORDS = {
    "what": "what",
    "whatever": "what",
    "how": "how",
    "why": "why",
    "when": "when",
    "where": "where",
    "which": "which",
    "who": "who",
    "whom": "who",
    "whose": "whose",
}
# 'Given a list, sort it' and the like: what stands there is what a pronoun refers to.
GIVING = frozenset({"give", "provide", "present", "show"})
# What a question without a question word opens with.
ASKING = frozenset(
    {
        "is",
        "are",
        "was",
        "were",
        "am",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "will",
        "would",
        "should",
        "shall",
        "may",
        "might",
        "must",
        "isn't",
        "aren't",
    }
)
# 'I need you to', 'we want someone to'.
ADDRESSED = frozenset({"you", "someone", "somebody"})
# Verbs of instructions that look like nouns; before a bare noun only these are taken for verbs.
INSTRUCTIONS = frozenset(
    {
        "list",
        "name",
        "rank",
        "sort",
        "group",
        "order",
        "match",
        "label",
        "describe",
        "compare",
        "outline",
        "summarize",
        "find",
        "identify",
        "create",
        "generate",
        "output",
        "write",
        "translate",
        "rewrite",
        "suggest",
        "brainstorm",
        "classify",
        "design",
        "draft",
        "explain",
        "define",
        "solve",
        "add",
        "analyze",
        "calculate",
        "change",
        "choose",
        "compose",
        "convert",
        "correct",
        "count",
        "develop",
        "discuss",
        "edit",
        "give",
        "make",
        "paraphrase",
        "predict",
        "provide",
        "recommend",
        "rephrase",
        "select",
        "tell",
        "use",
    }
)
