"""`evoloom worker`."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    pool: Annotated[
        str, typer.Option(help="Work pool: cpu (generation, curation) or gpu (the student).")
    ] = "cpu",
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at once.")] = 1,
    name: Annotated[str | None, typer.Option(help="The worker's name in Prefect.")] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Answer GET /health on this port of 127.0.0.1: 200 while it asks Prefect for work.",
        ),
    ] = None,
    stop_runs: Annotated[
        bool,
        typer.Option(
            "--stop-runs",
            help="Take its runs along when it is told to end, with their grace time: for containers.",
        ),
    ] = False,
) -> None:
    """Execute the flow runs of a work pool of the Prefect server at PREFECT_API_URL.

    Makes the pool and registers its flows first, as deployments FLOW/POOL; then it is Prefect's own
    worker, until SIGTERM or Ctrl-C. Runs that it started go on without it, unless --stop-runs is given.
    """
    import os
    import sys

    from flows import logs
    from flows.deployments import deploy_pool, entrypoints_of
    from flows.prefect_server import configured_server

    entrypoints_of(pool)
    configured_server()
    for deployed in deploy_pool(pool):
        logs.tell(f"deployment {deployed.name}", "deployment", pool=pool)
    os.environ |= logs.prefect_environment()
    arguments = ["worker", "start", "--pool", pool, "--type", "process", "--limit", str(limit)]
    arguments += ["--name", name] if name else []
    if health_port is not None:
        os.environ |= {
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(health_port),
        }
        arguments.append("--with-healthcheck")
    argv = [sys.executable, "-m", "prefect", *arguments]
    if stop_runs:
        from flows.up.attending import attend
        from pipeline.config import load_settings

        sys.exit(attend(argv, load_settings().run.grace_s, logs.tell_by_name))
    # In this process's place, so that signals and restarts reach Prefect's worker itself. No shell: a
    # list of our own, the pool checked above.
    os.execv(sys.executable, argv)  # noqa: S606
