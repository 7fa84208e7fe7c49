"""What a run takes over from earlier runs and from files, copied so that a resume needs neither."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.evol_instruct.plan import SourceInstance, SourceInstruction
from pipeline.evol_instruct.source import encode_source, read_alpaca
from pipeline.records import EarlierRun
from store.export import accepted_rows, complete_positions
from store.run_directory import SETTLED_STATES, list_run_ids, runs_directory
from store.run_names import is_known, resolve_run, resolve_runs
from store.run_rows import read_run_rows
from store.run_writer import AGAINST


def pin_names(settings: Settings) -> Settings:
    """The settings with the run or the version that each dataset's name means at this moment."""
    runs_dir = runs_directory(settings.store.path)
    source = settings.evol_instruct.source
    if source is not None and is_known(runs_dir, source):
        source = resolve_run(runs_dir, source)
    return settings.model_copy(
        update={
            "novelty": settings.novelty.model_copy(
                update={"against": resolve_runs(runs_dir, settings.novelty.against)}
            ),
            "evol_instruct": settings.evol_instruct.model_copy(update={"source": source}),
        }
    )


def copy_against(store_path: Path, run_ids: tuple[str, ...]) -> dict[str, bytes]:
    """The instructions of earlier runs, as the file that a new run directory keeps of them.

    Raises:
        UsageError: one does not exist or is not completed.
    """
    runs_dir = runs_directory(store_path)
    lines = []
    for run_id in resolve_runs(runs_dir, run_ids):
        rows = read_run_rows(runs_dir / run_id)
        if rows.state.state != "completed":
            raise UsageError(
                f"novelty.against: run {run_id} is {rows.state.state}; novelty can only be measured "
                f"against completed runs. `evoloom resume {run_id}` may complete it"
            )
        for instruction, _ in accepted_rows(rows, complete_positions(rows)):
            address = ".".join(map(str, instruction.position))
            lines.append(json.dumps([run_id, address, instruction.text], ensure_ascii=False))
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    return {AGAINST: data} if run_ids else {}


def read_against(run_dir: Path) -> list[EarlierRun]:
    """What `copy_against` wrote into a run directory, run by run."""
    path = run_dir / AGAINST
    texts: dict[str, list[tuple[str, str]]] = {}
    if path.exists():
        # A text may hold what else ends a line, and half an emoji.
        for line in path.read_bytes().decode("utf-8", "surrogatepass").split("\n"):
            if line:
                run_id, address, text = json.loads(line)
                texts.setdefault(run_id, []).append((address, text))
    return [EarlierRun(run_id, instructions) for run_id, instructions in texts.items()]


def copy_source(settings: Settings) -> bytes:
    """The source instructions of an evolution, as the file that its run directory keeps of them.

    Raises:
        UsageError: none is named, it is neither a run that has ended nor a readable file, or it
            holds no instruction.
    """
    name = settings.evol_instruct.source
    if name is None:
        raise UsageError(
            "evol_instruct.source is not set: name a run or a file in Alpaca's format with --source"
        )
    runs_dir = runs_directory(settings.store.path)
    if is_known(runs_dir, name):
        source = _source_of_run(runs_dir / resolve_run(runs_dir, name))
    elif Path(name).is_file():
        source = read_alpaca(Path(name))
    else:
        there = ", ".join(list_run_ids(runs_dir)[-20:]) or "none"
        raise UsageError(
            f"evol_instruct.source: {name!r} is no run in {runs_dir} (there: {there}) and no file"
        )
    return encode_source(source[: settings.evol_instruct.limit])


def _source_of_run(run_dir: Path) -> list[SourceInstruction]:
    rows = read_run_rows(run_dir)
    run_id = rows.manifest.run_id
    if rows.state.state not in SETTLED_STATES:
        raise UsageError(
            f"evol_instruct.source: run {run_id} is {rows.state.state}; what it will hold is not "
            f"settled. `evoloom resume {run_id}` goes on with it, or evolve its export"
        )
    source = [
        SourceInstruction(
            instruction.text,
            tuple(
                SourceInstance(row.input, row.output, row.system, row.further_turns)
                for row in instances
            ),
            f"{run_id} {instruction.stage}/{'.'.join(map(str, instruction.position))}",
            instruction.is_classification,
        )
        for instruction, instances in accepted_rows(rows, complete_positions(rows))
    ]
    if not source:
        raise UsageError(f"evol_instruct.source: run {run_id} has no accepted instruction")
    return source
