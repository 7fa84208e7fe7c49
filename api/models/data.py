"""Datasets, instructions, statistics, queries."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from api.models.common import NameText, RunName, Sent, Shown


class DatasetBody(Sent):
    """A dataset version to be made of everything that its inputs have accepted."""

    name: NameText
    inputs: list[RunName] = Field(min_length=1, max_length=100)
    """Runs that have ended, imports or dataset versions."""


class DatasetView(Shown):
    """A dataset version."""

    dataset: str
    """Name and version, such as `nightly@2026-11-21.1`: its id."""
    name: str
    version: str
    content_hash: str
    instructions: int
    instances: int
    inputs: list[str]
    created_at: str | None


class DatasetPage(Shown):
    """A page of dataset versions."""

    items: list[DatasetView]
    next_cursor: str | None


class LengthBin(Shown):
    """How many texts have a length in words."""

    part: str
    words_from: int
    words_to: int | None
    count: int


class DatasetStatistics(Shown):
    """The rows of Self-Instruct's Table 1."""

    run_id: str
    instructions: int
    classification: int
    not_classification: int
    unknown: int
    instances: int
    duplicates: int
    empty_inputs: int
    empty_input_share: float | None
    mean_instruction_words: float | None
    mean_input_words: float | None
    mean_output_words: float | None
    lengths: list[LengthBin]


class KindCount(Shown):
    """Instructions of one kind."""

    kind: str
    question_word: str | None
    count: int
    share: float


class NoveltyBin(Shown):
    """How many instructions are how near."""

    against: str
    """`seed` or `pool`."""
    score_from: float
    score_to: float
    count: int | None
    share: float | None


class DatasetDiversity(Shown):
    """How varied a dataset is."""

    run_id: str
    kinds: list[KindCount]
    novelty: list[NoveltyBin]


class InstructionView(Shown):
    """An instruction in a list."""

    id: str
    run_id: str
    method: str
    """The kind of its run."""
    stage: str
    position: list[int]
    text: str
    state: str
    reason: str | None
    score: float | None
    is_classification: bool | None
    operator: str | None
    round: int | None
    difficulty: int | None
    parent_id: str | None
    verb: str | None
    noun: str | None


class InstructionPage(Shown):
    """A page of instructions."""

    items: list[InstructionView]
    next_cursor: str | None


class InstanceDetail(Shown):
    """An instance."""

    id: str
    index: int
    input: str
    output: str
    state: str
    reason: str | None
    system: str | None
    further_turns: str | None


class CompletionDetail(Shown):
    """What the teacher answered."""

    id: str
    stage: str
    position: list[int]
    attempt: int
    state: str
    reason: str | None
    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    model: str


class LineageNode(Shown):
    """An instruction in a tree; `level` counts from the root, which is 0."""

    id: str
    parent_id: str | None
    level: int
    run_id: str
    stage: str
    position: list[int]
    text: str
    state: str
    reason: str | None
    operator: str | None
    round: int | None
    difficulty: int | None


class InstructionDetail(InstructionView):
    """An instruction with all that belongs to it."""

    evidence: str | None
    blocker_source: str | None
    blocker_reference: str | None
    blocker_text: str | None
    origin: str | None
    root_id: str | None
    instances: list[InstanceDetail]
    completions: list[CompletionDetail]
    lineage: list[LineageNode]
    """The whole tree that it stands in, each node before its children."""


class NounCount(Shown):
    """A direct object of a verb."""

    noun: str
    count: int
    share: float
    example: str


class VerbCount(Shown):
    """A verb with its most frequent direct objects."""

    verb: str
    count: int
    share: float
    nouns: list[NounCount]


class VerbNounStatistics(Shown):
    """What the instructions ask for."""

    run_id: str
    method: str
    pairs: int
    """Different (verb, noun) pairs."""
    verbs: int
    """Different verbs."""
    top: list[VerbCount]


class QueryBody(Sent):
    """An SQL query: one SELECT on the newest snapshot (docs/STORE.md)."""

    sql: str = Field(min_length=1)
    max_rows: int | None = Field(default=None, ge=1, le=10**6)


class QueryColumn(Shown):
    """A column of a result."""

    name: str
    type: str


class QueryResult(Shown):
    """Rows as lists, in the order of the columns."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    truncated: bool
    """Whether there are more rows than were asked for, or may be returned."""
    snapshot: str


class Health(Shown):
    """That the service lives."""

    status: str
    version: str


class Readiness(Shown):
    """Whether the service can do its work."""

    status: str
    """`ready` or `not ready`."""
    checks: dict[str, str]
    """`ok`, or what is wrong."""
