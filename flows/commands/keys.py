"""`evoloom keys create|list|revoke`: who may use the REST service."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, StoreOption, store_path

app = typer.Typer(help="Keys of the REST service.", no_args_is_help=True)


@app.command("create")
def create(
    scope: Annotated[
        str,
        typer.Option(
            help="What it may do, such as submit,read: submit (what creates or stops something), "
            "read, query (SQL), admin (all of it, also on what other keys have made)."
        ),
    ],
    name: Annotated[str, typer.Option(help="Whose it is, for the list.")] = "",
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it. It is shown this once: the store keeps a hash."""
    import json
    from dataclasses import asdict

    from store.service.database import ServiceDatabase
    from store.service.keys import create_key, parse_scopes

    scopes = parse_scopes(scope)
    with ServiceDatabase(store_path(store, config)) as database:
        key, text = create_key(database, scopes, name)
    if as_json:
        typer.echo(json.dumps({**asdict(key), "key": text}))
        return
    typer.echo(text)
    typer.echo(f"key {key.key_id} with {', '.join(scopes)}; it is not shown again", err=True)


@app.command("list")
def list_(
    store: StoreOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List keys, without their secrets."""
    import json
    from dataclasses import asdict

    from store.service.database import ServiceDatabase
    from store.service.keys import list_keys

    with ServiceDatabase(store_path(store, config)) as database:
        keys = list_keys(database)
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in keys]))
        return
    for key in keys:
        state = f"revoked {key.revoked_at}" if key.revoked_at else "valid"
        scopes = ",".join(key.scopes)
        typer.echo(f"{key.key_id}  {scopes:<26}  {key.created_at}  {state}  {key.name}".rstrip())
    if not keys:
        typer.echo("no keys; `evoloom keys create --scope submit,read` makes one", err=True)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its id: what `keys list` shows first.")],
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a key, at once and for good."""
    from store.service.database import ServiceDatabase
    from store.service.keys import revoke_key

    with ServiceDatabase(store_path(store, config)) as database:
        key = revoke_key(database, key_id)
    typer.echo(f"key {key.key_id} was revoked at {key.revoked_at}", err=True)
