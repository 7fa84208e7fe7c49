"""From a request for a run to its place in the queue."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from starlette.responses import Response

from api.models.runs import ResumeBody, RunAccepted, RunBody
from api.problems import Problem, field_problem
from api.repeating import created, earlier_answer, respond, reused
from api.run_views import RunViews
from api.service import Service
from flows.runs import new_run_id
from flows.serving.runs import (
    SettingError,
    check_run,
    dumped,
    encode_seeds,
    settings_of_request,
)
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.evol_instruct import manifest as evol_instruct
from pipeline.records import SeedTask
from pipeline.self_instruct import manifest as self_instruct
from store.run_directory import is_run, runs_directory
from store.run_names import list_versions
from store.service.idempotency import Identity, ReusedKeyError, find_answer, remember
from store.service.keys import Key
from store.service.run_requests import RunRequest, ask_to_resume, find_request, insert_request
from store.service.runs_index import IndexedRun
from store.service.seed_sets import find_set, list_members
from store.service.seed_tasks import find_tasks

_SETTING = re.compile(r"(?:setting )?'?([a-z_]+(?:\.[a-z_]+)+)'?")
_ONLY: dict[str, tuple[str, ...]] = {
    self_instruct.KIND: ("seed_set", "target"),
    evol_instruct.KIND: ("source", "rounds", "limit"),
}
_KEYS = {
    "target": ("run", "target"),
    "seed": ("run", "seed"),
    "source": ("evol_instruct", "source"),
    "rounds": ("evol_instruct", "rounds"),
    "limit": ("evol_instruct", "limit"),
}


def start(service: Service, key: Key, body: RunBody, identity: Identity | None) -> Response:
    """Check a run and queue it.

    Raises:
        Problem: a field is wrong, or there is a run with this id.
    """
    if (earlier := earlier_answer(service.database, identity)) is not None:
        return respond(earlier, is_repeated=True)
    seeds = _seeds(service, body)
    settings = _settings(service, body)
    run_id = body.run_id or new_run_id(body.method)
    _check_id(service, run_id)
    try:
        pinned = check_run(body.method, run_id, settings, seeds)
    except UsageError as exc:
        raise _usage_problem(exc, body) from exc
    value = RunAccepted(run_id=run_id, state="queued", seeds=len(seeds) if seeds else None)
    given = created(value, 202, f"/v1/runs/{run_id}")
    try:
        with service.database.transaction() as connection:
            earlier = find_answer(connection, identity)
            if earlier is not None:
                return respond(earlier, is_repeated=True)
            insert_request(
                connection,
                run_id=run_id,
                method=body.method,
                seed_set=body.seed_set,
                seeds=encode_seeds(seeds) if seeds else None,
                settings=dumped(pinned),
                requested_by=key.key_id,
            )
            remember(connection, identity, given)
    except ReusedKeyError as exc:
        raise reused() from exc
    except sqlite3.IntegrityError as exc:
        raise _exists(run_id) from exc
    service.executor.wake()
    return respond(given, is_repeated=False)


def resume(
    service: Service, wanted: RunRequest, run: IndexedRun | None, views: RunViews, body: ResumeBody
) -> RunAccepted:
    """Queue a run that has stopped.

    Raises:
        Problem: it has not, or there is nothing left to do.
    """
    run_id = wanted.run_id
    if wanted.state in ("queued", "started"):
        raise Problem(409, "run_at_work", f"run {run_id} has not stopped")
    state = views.state_of(run, wanted)[0] if run else wanted.state
    if state in ("completed", "ceiling"):
        raise Problem(409, "run_ended", f"run {run_id} is {state}: nothing is left to do")
    base = Settings(**wanted.settings)
    try:
        settings = settings_of_request(
            base, {str(name): part for name, part in body.settings.items()}
        )
    except UsageError as exc:
        raise _usage_problem(exc, None) from exc
    with service.database.transaction() as connection:
        ask_to_resume(connection, run_id, dumped(settings))
    service.executor.wake()
    return RunAccepted(run_id=run_id, state="queued", seeds=None)


def _seeds(service: Service, body: RunBody) -> list[SeedTask]:
    if body.seed_set is None:
        return []
    if find_set(service.database, body.seed_set) is None:
        raise Problem(
            404, "seed_set_not_found", f"seed_set: there is none called {body.seed_set!r}"
        )
    ids = [task_id for _, task_id in list_members(service.database, body.seed_set)]
    tasks = find_tasks(service.database, ids)
    active = [tasks[task_id].task for task_id in ids if tasks[task_id].retracted_at is None]
    if not active:
        raise Problem(
            409, "seed_set_empty", f"seed_set: all seed tasks of {body.seed_set!r} were retracted"
        )
    return active


def _settings(service: Service, body: RunBody) -> Settings:
    for method, fields in _ONLY.items():
        for name in fields:
            if body.method != method and getattr(body, name) is not None:
                raise field_problem(name, f"is for method {method} only")
    most = service.settings.api.max_target
    given: dict[str, dict[str, Any]] = {name: dict(part) for name, part in body.settings.items()}
    for name, (section, key) in _KEYS.items():
        value = getattr(body, name)
        if value is None:
            continue
        if key in given.get(section, {}):
            raise field_problem(f"settings.{section}.{key}", f"is set by the field {name} already")
        given.setdefault(section, {})[key] = value
    try:
        settings = settings_of_request(service.settings, given)
    except UsageError as exc:
        raise _usage_problem(exc, body) from exc
    if settings.run.target > most:
        raise field_problem("target", f"{settings.run.target}; this service makes {most} at most")
    return settings


def _check_id(service: Service, run_id: str) -> None:
    store_path = service.store_path
    if "@" in run_id:
        raise field_problem("run_id", "'@' stands in the ids of dataset versions only")
    if (
        is_run(store_path, run_id)
        or find_request(service.database, run_id) is not None
        or list_versions(runs_directory(store_path), run_id)
    ):
        raise _exists(run_id)


def _exists(run_id: str) -> Problem:
    return Problem(
        409, "run_exists", f"run_id: there is a run or a dataset called {run_id!r} already"
    )


def _usage_problem(exc: UsageError, body: RunBody | None) -> Problem:
    """A mistake in settings, by the field of the request that it came by."""
    text = str(exc).replace(" (flag)", "")
    match = _SETTING.search(text)
    key = exc.key if isinstance(exc, SettingError) else match[1] if match else ""
    names = {".".join(place): name for name, place in _KEYS.items()}
    field = f"settings.{key}" if key else "body"
    if key in names and body is not None and getattr(body, names[key]) is not None:
        field = names[key]
    elif "seed tasks" in text and body is not None and body.seed_set is not None:
        field = "seed_set"
    elif key == "evol_instruct.source":
        field = "source"
    return field_problem(field, text, "invalid_setting")
