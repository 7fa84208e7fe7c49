"""The records that travel between the methods, the run and the store. All are frozen.

A record with a position is addressed by it: generation position ``(g,)``, item position ``(g, i)``
where ``i`` counts the pieces of the parsed completion before any filter (DESIGN.md, Addresses).
Identifiers are hashes of (run id, stage, position, index), so that a row derived twice is one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, TypeAlias

Position: TypeAlias = tuple[int, ...]
InstructionState: TypeAlias = Literal[
    "pending", "accepted", "rejected", "without_instances", "surplus", "left_out"
]
InstanceState: TypeAlias = Literal["accepted", "rejected", "surplus"]
CompletionState: TypeAlias = Literal["used", "discarded", "surplus"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One (input, output) pair of an instruction; an empty input means none is needed."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class SeedTask:
    """A human-written task in the field's schema (Self-Instruct, released `seed_tasks.jsonl`)."""

    id: str
    name: str
    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """Read a row that `pipeline.seeds` has validated."""
        instances = tuple(Instance(item["input"], item["output"]) for item in row["instances"])
        return cls(
            row["id"], row["name"], row["instruction"], instances, bool(row["is_classification"])
        )

    def to_json(self) -> dict[str, Any]:
        """The row in the field's schema, keys in its order."""
        row = asdict(self)
        row["instances"] = [asdict(item) for item in self.instances]
        return row


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where one request stands in a run: (stage, position, attempt).

    Written `stage/3.1`, or `stage/3.1/2` for a deliberate re-ask.
    """

    stage: str
    position: Position
    attempt: int = 0

    def __str__(self) -> str:
        text = f"{self.stage}/{'.'.join(map(str, self.position))}"
        return f"{text}/{self.attempt}" if self.attempt else text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form.

        Raises:
            ValueError: `text` is not of the form `stage/3.1` or `stage/3.1/2`.
        """
        stage, position, *attempt = text.split("/")
        if len(attempt) > 1:
            raise ValueError(text)
        numbers = tuple(int(part) for part in position.split("."))
        return cls(stage, numbers, int(attempt[0]) if attempt else 0)

    def sampling_seed(self, run_seed: int) -> int:
        """The seed sent with the request: 31 bits of a hash of (run seed, address)."""
        digest = hashlib.sha256(f"{run_seed}/{self}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the endpoint counted them; cached tokens are part of the prompt's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer of the teacher. `usage` is None where the endpoint sent none."""

    text: str
    finish_reason: str
    usage: Usage | None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is about this request alone and will not change: it is journaled.

    `kind` is `context_length`, `content_policy` or `given_up` (by `resume --give-up`).
    """

    kind: str
    message: str


Outcome: TypeAlias = Completion | Refusal


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An address's outcome, and what it answers.

    `reserved_tokens` is what a cap set aside for the request and keeps where the answer came
    without usage; `context` is the method's own note (the shots that were shown).
    """

    address: Address
    request_hash: str
    prompt_hash: str
    parameters: Mapping[str, Any]
    outcome: Outcome
    reserved_tokens: int
    latency_s: float
    answered_at: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShotRecord:
    """One of the instructions shown in a generation prompt, in the order shown.

    `source` is `seed` (then `reference` is the seed's id) or `machine` (`reference` is `g.i`).
    """

    slot: int
    source: Literal["seed", "machine"]
    reference: str


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """A journaled outcome as the store shows it."""

    stage: str
    position: Position
    attempt: int
    state: CompletionState
    reason: str | None
    text: str | None
    finish_reason: str | None
    usage: Usage | None
    reserved_tokens: int
    latency_s: float
    answered_at: str
    model: str
    shots: tuple[ShotRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockerRow:
    """What kept a text out: its text and where it stands.

    `source` is `seed` (`reference`: the seed's id), `run` (`reference`: `RUN g.i`, an earlier
    run named in `novelty.against`), `source` (`reference`: the number of a source instruction of
    an evolution) or `machine` (`reference`: the position in this run).
    """

    source: Literal["seed", "run", "source", "machine"]
    reference: str
    text: str


@dataclass(frozen=True, slots=True)
class InstructionRow:
    """An instruction, admitted or not, at its address.

    `operator`, `round` and `difficulty` (a rating from 1 to 10) are set by evolution only. `parent`
    is the position of the parent's row in this run, `source:NUMBER` for a source instruction, or,
    of a source instruction itself and of a dataset version's, `RUN STAGE/POSITION` where it comes
    from a run. `origin` is where an imported one stands: `FILE line 12`. `root` is the id of the
    instruction that a dataset version's descends from, as it was when the version was made; splits
    are by it.
    """

    stage: str
    position: Position
    text: str
    state: InstructionState
    reason: str | None = None
    evidence: str | None = None
    score: float | None = None
    blocker: BlockerRow | None = None
    is_classification: bool | None = None
    parent: str | None = None
    operator: str | None = None
    round: int | None = None
    difficulty: int | None = None
    origin: str | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance of the instruction at (stage, position); `index` counts as parsed.

    `is_duplicate` says that an earlier row of an imported file was the same. `system` and
    `further_turns` are of imported conversations: the system message, and what was said after the
    first answer, as JSON: a list of [user, assistant]. The rest is curation's: the number of the step
    that rejected it, the number that decided and what else did, and, as a JSON object, what steps
    have measured of it.
    """

    stage: str
    position: Position
    index: int
    input: str
    output: str
    state: InstanceState
    reason: str | None = None
    is_duplicate: bool = False
    system: str | None = None
    further_turns: str | None = None
    step: int | None = None
    score: float | None = None
    evidence: str | None = None
    scores: str | None = None


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A completed run whose instructions block without being part of the run; never shots."""

    run_id: str
    instructions: Sequence[tuple[str, str]]
    """(address `g.i`, text), in the order of its export."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything derived at one position of one stream, written to the spool as a whole.

    `stream` and `position` are the watermark: batches of a stream come in position order, and a
    later batch may hold a later state of a row that an earlier one held.
    """

    stream: str
    position: Position
    completions: tuple[CompletionRow, ...] = ()
    instructions: tuple[InstructionRow, ...] = ()
    instances: tuple[InstanceRow, ...] = ()


def row_id(run_id: str, stage: str, position: Position, index: int = 0) -> str:
    """The identifier of a row: 128 bits of a hash of (run id, stage, position, index), in hex."""
    key = f"{run_id}/{stage}/{'.'.join(map(str, position))}/{index}"
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
