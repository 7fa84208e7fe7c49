"""Browsing instructions, and what they ask for."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.access import Reader, Serving
from api.caching import answer
from api.documenting import NOT_MODIFIED, problems
from api.models.common import ROW_ID, RUN_ID
from api.models.data import (
    InstructionDetail,
    InstructionPage,
    InstructionView,
    VerbNounStatistics,
)
from api.paging import CursorText, Limit, decode_cursor, encode_cursor
from api.problems import Problem, field_problem
from api.service import Service
from api.strict_json import StrictRoute
from store.run_directory import runs_directory
from store.run_names import is_known, resolve_run
from store.service.browse import (
    InstructionFilter,
    find_instruction,
    list_instructions,
    place_of,
)
from store.service.statistics import verb_nouns

router = APIRouter(route_class=StrictRoute)
_Word = Annotated[str | None, Query(min_length=1, max_length=100)]
State = Literal["pending", "accepted", "rejected", "without_instances", "surplus", "left_out"]
_Run = Annotated[
    str | None,
    Query(pattern=RUN_ID, description="A run, import or dataset version, or a dataset's name."),
]


@router.get(
    "/instructions", response_model=InstructionPage, operation_id="listInstructions",
    responses={**NOT_MODIFIED, **problems(404)}, tags=["instructions"],
)  # fmt: skip
def list_all(
    request: Request,
    service: Serving,
    key: Reader,
    run: _Run = None,
    method: Annotated[str | None, Query(max_length=50, description="Kind of the run.")] = None,
    state: State | None = None,
    reason: Annotated[
        str | None, Query(max_length=100, description="Why it was rejected, such as not_novel.")
    ] = None,
    verb: _Word = None,
    noun: _Word = None,
    text: Annotated[
        str | None, Query(min_length=1, max_length=1000, description="Words of it, in any case.")
    ] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Response:
    """List instructions by run and position, as the newest snapshot has them."""
    place = decode_cursor(cursor, [str, str, int, int, str])
    run_id = known_run(service, "run", run) if run is not None else None
    wanted = InstructionFilter(run_id, method, state, reason, verb, noun, text)

    def make() -> InstructionPage:
        rows = list_instructions(service.reads, wanted, place, limit + 1)
        page = rows[:limit]
        after = encode_cursor(place_of(page[-1])) if len(rows) > limit else None
        items = [InstructionView.model_validate(row) for row in page]
        return InstructionPage(items=items, next_cursor=after)

    return answer(request, service.cache, f"{service.reads.version()}/{run_id}", make)


@router.get(
    "/instructions/{instruction_id}", response_model=InstructionDetail,
    operation_id="getInstruction", responses={**NOT_MODIFIED, **problems(404)},
    tags=["instructions"],
)  # fmt: skip
def get_instruction(
    request: Request,
    service: Serving,
    key: Reader,
    instruction_id: Annotated[str, Path(pattern=ROW_ID)],
) -> Response:
    """Get an instruction with its instances, what the teacher answered, and its lineage."""

    def make() -> InstructionDetail:
        row = find_instruction(service.reads, instruction_id)
        if row is None:
            raise Problem(
                404, "instruction_not_found",
                f"there is no instruction {instruction_id} in the newest snapshot",
            )  # fmt: skip
        del row["generation"], row["item"]
        return InstructionDetail.model_validate(row)

    return answer(request, service.cache, str(service.reads.version()), make)


@router.get(
    "/statistics/verb-noun", response_model=VerbNounStatistics, operation_id="getVerbNouns",
    responses={**NOT_MODIFIED, **problems(404)}, tags=["statistics"],
)  # fmt: skip
def get_verb_nouns(
    request: Request,
    service: Serving,
    key: Reader,
    run: _Run = None,
    dataset: _Run = None,
    method: Annotated[
        Literal["mended", "published"], Query(description="`published`: the paper's own rule.")
    ] = "mended",
    verbs: Annotated[int, Query(ge=1, le=1000)] = 20,
    nouns: Annotated[int, Query(ge=1, le=1000)] = 4,
) -> Response:
    """Count what the instructions of a run or a dataset ask for: the most frequent verbs, and the most
    frequent nouns of each. Empty until they have been analysed."""
    if (run is None) == (dataset is None):
        raise field_problem("run", "name either a run or a dataset")
    field, name = ("run", run) if run is not None else ("dataset", dataset)
    run_id = known_run(service, field, name or "")

    def make() -> VerbNounStatistics:
        return VerbNounStatistics(
            run_id=run_id, method=method,
            **verb_nouns(service.reads, run_id, method, verbs, nouns),
        )  # fmt: skip

    return answer(request, service.cache, f"{service.reads.version()}/{run_id}", make)


def known_run(service: Service, field: str, name: str) -> str:
    """The id of the run, import or version that is meant.

    Raises:
        Problem: there is none.
    """
    if service.runs.one(name) is not None:
        return name
    runs_dir = runs_directory(service.store_path)
    if not is_known(runs_dir, name):
        raise Problem(404, "run_not_found", f"{field}: there is no run or dataset {name!r}")
    return resolve_run(runs_dir, name)
