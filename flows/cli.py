"""The command line. Heavy imports wait inside the commands: `--help` answers in half a second."""

from __future__ import annotations

import errno
import os
import sys

import typer

from flows.commands import (
    config,
    curate,
    datasets,
    diversity,
    evaluate,
    export,
    import_,
    keys,
    lineage,
    novelty,
    prune,
    rederive,
    report,
    resume,
    run,
    runs,
    schedule,
    seeds,
    serve,
    sql,
    store,
    teacher,
    train,
    up,
    worker,
)

app = typer.Typer(
    name="evoloom",
    help="Grow instruction-tuning data from a few seeds, keep every step, prove what it is worth.",
    epilog="Start here: `evoloom run self-instruct --target 12`. Exit codes: 0 done, 1 failed or "
    "ceiling reached, 2 usage or configuration, 75 interrupted and resumable, 130 Ctrl-C, resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(run.app, name="run")
app.add_typer(runs.app, name="runs")
app.command("resume")(resume.resume)
app.command("rederive")(rederive.rederive)
app.command("prune")(prune.prune)
app.command("import")(import_.import_)
app.command("export")(export.export)
app.command("curate")(curate.curate)
app.add_typer(datasets.app, name="datasets")
app.command("sql")(sql.sql)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("lineage")(lineage.lineage)
app.command("diversity")(diversity.diversity)
app.command("novelty")(novelty.novelty)
app.add_typer(seeds.app, name="seeds")
app.add_typer(teacher.teacher_app, name="teacher")
app.command("worker")(worker.worker)
app.command("up")(up.up)
app.command("down")(up.down)
app.add_typer(schedule.app, name="schedule")
app.add_typer(store.app, name="store")
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Run the command line; errors meant for people are printed without a traceback."""
    from flows import logs
    from pipeline.errors import EvoloomError
    from pipeline.threads import share_cores

    share_cores()
    try:
        app()
    except EvoloomError as exc:
        logs.tell_error(str(exc), exit_code=exc.exit_code)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `evoloom runs | head` is not an error; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as exc:
        if exc.errno not in _NO_ROOM:
            raise
        where = f"{exc.filename}: " if exc.filename else ""
        logs.tell_error(f"{where}{exc.strerror}. Make room, then try again", exit_code=1)
        sys.exit(1)


if __name__ == "__main__":
    main()
