"""A PostgreSQL cluster of a test's own, of Debian's packages (scripts/install-system-packages.sh)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path


def postgres_programs() -> Path:
    """The folder of PostgreSQL's own programs, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    program = str(found[-1]) if found else shutil.which("postgres")
    assert program, "PostgreSQL is not installed: sh scripts/install-system-packages.sh"
    return Path(program).parent


def postgres_version() -> str:
    """Such as `15.18`."""
    done = subprocess.run(
        [postgres_programs() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[2]


class PostgresCluster:
    """A cluster made as the image `postgres` makes one: a superuser with a password, and a database.

    PostgreSQL refuses root, so that it is the package's own user there.
    """

    def __init__(self, user: str, database: str, password: str) -> None:
        # Not pytest's folder, which is closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="evoloom-postgres-"))
        self.data = self.folder / "data"
        self._as_user: list[str] = []
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(password)
        if os.geteuid() == 0:
            own = pwd.getpwnam("postgres")
            for path in (self.folder, secret):
                os.chown(path, own.pw_uid, own.pw_gid)
            self._as_user = ["setpriv", f"--reuid={own.pw_uid}", f"--regid={own.pw_gid}",
                             "--clear-groups"]  # fmt: skip
        self._make(user, database, secret)

    def _make(self, user: str, database: str, secret: Path) -> None:
        programs = postgres_programs()
        self._run(
            [programs / "initdb", "-D", self.data, "-U", user, f"--pwfile={secret}", "-E", "UTF8",
             "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"]
        )  # fmt: skip
        secret.unlink()
        # Before it listens to anybody, as the image does it.
        self._run(
            [programs / "postgres", "--single", "-D", self.data, "postgres"],
            f'CREATE DATABASE "{database}"\n',
        )

    def _run(self, command: list[str | Path], text: str = "") -> None:
        done = subprocess.run(
            [*self._as_user, *command], input=text, text=True, capture_output=True, check=False,
            cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def command(self, port: int) -> list[str]:
        """What serves it on a port of 127.0.0.1."""
        return [*self._as_user, str(postgres_programs() / "postgres"), "-D", str(self.data),
                "-p", str(port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]  # fmt: skip

    def remove(self) -> None:
        """Delete it; it must have been stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)
