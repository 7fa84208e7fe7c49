"""Where the teachers of a run are: the pre-flight of each endpoint and stage, and one to ask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx2
from pydantic import SecretStr

from pipeline.records import Completion, Refusal
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import Teacher
from pipeline.sections import TeacherSettings
from pipeline.teacher.client import TeacherClient
from pipeline.teacher.endpoints import Endpoints
from pipeline.teacher.failures import TeacherSetupError, TeacherUnreachableError
from pipeline.teacher.served import ServedModel


@dataclass(frozen=True, slots=True)
class TeacherPlace:
    """Where the teacher of a run is: its addresses, and the model the pre-flight resolved, with those
    of stages that have their own."""

    addresses: tuple[str, ...]
    model: ServedModel

    @property
    def base_url(self) -> str:
        """The first address."""
        return self.addresses[0]


def needs_teacher(settings: TeacherSettings, stages: Sequence[str]) -> bool:
    """Whether any stage is asked at the teacher's addresses and not at one of its own."""
    own = [settings.stages.of(stage) for stage in stages]
    return not own or any(chosen is None or chosen.base_url is None for chosen in own)


def stage_settings(settings: TeacherSettings, stage: str) -> TeacherSettings:
    """The settings by which a stage is asked, with its key.

    Raises:
        TeacherSetupError: the variable that should hold the key is not set.
    """
    chosen = settings.for_stage(stage)
    own = settings.stages.of(stage)
    if own is None or own.api_key_variable is None:
        return chosen
    try:
        key = TeacherSettings(api_key=SecretStr(os.environ.get(own.api_key_variable, ""))).api_key
    except ValueError as exc:
        raise TeacherSetupError(
            f"teacher.stages.{stage}.api_key_variable: what the environment variable "
            f"{own.api_key_variable} holds is no key: printable ASCII without blanks is expected"
        ) from exc
    if key is None:
        raise TeacherSetupError(
            f"teacher.stages.{stage}.api_key_variable: the environment variable "
            f"{own.api_key_variable} is not set or empty; set it to the key"
        )
    return chosen.model_copy(update={"api_key": key})


def find_models(
    settings: TeacherSettings,
    addresses: Sequence[str],
    stages: Sequence[str],
    on_message: Callable[[str], None] = lambda text: None,
) -> ServedModel:
    """Check every endpoint that the stages are asked at, before anything is started.

    Args:
        addresses: the teacher's; none where no stage needs it.
        on_message: told of endpoints that do not answer while others of the same model do.

    Raises:
        TeacherSetupError: nobody reachable, a key refused, a model not served; the message names the
            endpoint.
    """
    return asyncio.run(_find_models(settings, addresses, stages, on_message))


async def _find_models(
    settings: TeacherSettings,
    addresses: Sequence[str],
    stages: Sequence[str],
    on_message: Callable[[str], None],
) -> ServedModel:
    model = None
    if addresses:
        model = await _find_model(settings, addresses, None, on_message)
    found: dict[str, ServedModel] = {}
    for stage in stages:
        own = settings.stages.of(stage)
        if own is None:
            continue
        wanted = stage_settings(settings, stage)
        if own.base_url is None and own.model is None and own.api_key_variable is None:
            assert model is not None  # the stage is asked at the teacher's addresses
            found[stage] = model
            continue
        if own.base_url is None and wanted.model is None and model is not None:
            wanted = wanted.model_copy(update={"model": model.name})
        places = addresses if own.base_url is None else (own.base_url,)
        found[stage] = await _find_model(wanted, places, stage, on_message)
    if model is None:  # every stage has a teacher of its own: the first to be asked stands for all
        model = found[stages[-1]]
    return replace(model, stages=found)


async def _find_model(
    settings: TeacherSettings,
    addresses: Sequence[str],
    stage: str | None,
    on_message: Callable[[str], None],
) -> ServedModel:
    async def check(address: str) -> ServedModel | TeacherUnreachableError:
        try:
            async with TeacherClient(address, settings, stage) as client:
                return await client.preflight()
        except TeacherUnreachableError as exc:
            return exc
        except (ImportError, OSError, httpx2.InvalidURL) as exc:
            # The environment's: a proxy of a kind that is not installed, a file of certificates that
            # is not there.
            raise TeacherSetupError(
                f"teacher {address}: no connection can be set up ({exc}); look at HTTP_PROXY, "
                "HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment"
            ) from exc

    results = await asyncio.gather(*(check(address) for address in addresses))
    away = [result for result in results if isinstance(result, TeacherUnreachableError)]
    models = {
        address: result
        for address, result in zip(addresses, results, strict=True)
        if isinstance(result, ServedModel)
    }
    if not models:
        raise away[0] if len(away) == 1 else TeacherUnreachableError("\n".join(map(str, away)))
    if len({model.name for model in models.values()}) > 1:
        served = ", ".join(f"{address} serves {model.name}" for address, model in models.items())
        raise TeacherSetupError(
            f"teacher.endpoints are of one model, and these are not: {served}. Name the model in "
            "teacher.model, or leave out the endpoints of others"
        )
    for error in away:
        on_message(f"warning: {error}. The run goes on with the others and tries it now and then")
    return next(iter(models.values()))


@dataclass(frozen=True, slots=True)
class StageTeachers:
    """The teachers of a run as one: each request goes to that of its stage."""

    default: Teacher | None
    stages: Mapping[str, Teacher] = field(default_factory=dict)

    def of(self, stage: str) -> Teacher:
        """Who answers a stage."""
        teacher = self.stages.get(stage, self.default)
        assert teacher is not None  # there is a default unless every stage has its own
        return teacher

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once; see `TeacherClient.complete`."""
        return await self.of(request.address.stage).complete(request)

    def warnings(self) -> list[str]:
        """What people should know of endpoints."""
        distinct = {id(teacher): teacher for teacher in (self.default, *self.stages.values())}
        return [
            text
            for teacher in distinct.values()
            if isinstance(teacher, Endpoints)
            for text in teacher.warnings()
        ]


@asynccontextmanager
async def connect(place: TeacherPlace, settings: TeacherSettings) -> AsyncIterator[StageTeachers]:
    """The teachers of a run, connected for as long as the context lasts.

    Raises:
        TeacherSetupError: the variable that should hold a stage's key is not set.
    """
    async with AsyncExitStack() as stack:
        made: dict[tuple[tuple[str, ...], str | None], Teacher] = {}

        async def teacher(addresses: tuple[str, ...], chosen: TeacherSettings) -> Teacher:
            """One for each set of addresses and key: stages share connections."""
            secret = chosen.api_key.get_secret_value() if chosen.api_key else None
            if (addresses, secret) not in made:
                clients = [
                    await stack.enter_async_context(TeacherClient(address, chosen))
                    for address in addresses
                ]
                made[addresses, secret] = (
                    clients[0]
                    if len(clients) == 1
                    else Endpoints(
                        clients,
                        aside_after=settings.aside_after,
                        probe_interval_s=settings.probe_interval_s,
                    )
                )
            return made[addresses, secret]

        stages = {}
        for stage in place.model.stages:
            own = settings.stages.of(stage)
            if own is not None and (own.base_url or own.api_key_variable):
                places = (own.base_url,) if own.base_url else place.addresses
                stages[stage] = await teacher(places, stage_settings(settings, stage))
        default = await teacher(place.addresses, settings) if place.addresses else None
        yield StageTeachers(default, stages)
