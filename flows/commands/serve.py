"""`evoloom serve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.options import ConfigOption, SetOption, StoreOption, settings_of


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one. [default: 8080]")
    ] = None,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Serve a store over REST (docs/API.md), until SIGTERM or Ctrl-C; runs it has started go on.

    Every route but /v1/health needs a key (`evoloom keys create`); with `--set api.auth=off` none
    does, on a loopback address only.
    """
    from importlib import import_module

    resolved = settings_of(sets, store, config, api__host=host, api__port=port)
    # By name: the service stands above the command line, which only starts it.
    server: Any = import_module("api.server")
    server.serve(resolved.settings, lambda text: typer.echo(text))
