"""Who asks, and what that key allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from api.problems import Problem
from api.service import Service
from store.service.keys import Key, Scope

# The key was looked at before the body was read (api.gate); this tells OpenAPI of it.
BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="A key of `evoloom keys create`."
)


# Dependencies are coroutines: a function would cost each request the way to a thread and back.
async def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service: Service = request.app.state.service
    return service


def key_of(request: Request) -> Key:
    """The key of a request; the gate lets none in without, where one is needed."""
    key: Key = request.scope["state"]["key"]
    return key


def need(scope: Scope) -> Callable[[Request], Awaitable[Key]]:
    """A dependency: the key, if it has a scope."""

    async def check(request: Request, _: Annotated[object, Security(BEARER)] = None) -> Key:
        key = key_of(request)
        if not key.allows(scope):
            raise Problem(
                403, "scope_missing",
                f"this needs a key with the scope '{scope}'; yours has {', '.join(key.scopes)}",
            )  # fmt: skip
        return key

    return check


def check_owner(key: Key, owner: str | None, what: str) -> None:
    """What one key has made, another may change only with the scope `admin`.

    Raises:
        Problem: the key is neither.
    """
    if owner != key.key_id and not key.allows("admin"):
        raise Problem(
            403,
            "not_yours",
            f"{what} was made by key {owner}; yours needs the scope 'admin' for it",
        )


Serving = Annotated[Service, Depends(service_of)]
Reader = Annotated[Key, Depends(need("read"))]
Submitter = Annotated[Key, Depends(need("submit"))]
Querier = Annotated[Key, Depends(need("query"))]
