"""Makes `.venv` with evoloom in it, and unpacks the bundled model. Run by `make setup`.

Does only what is not done yet: a stamp in `.venv` holds a digest of what each step was made from.
Needs nothing but Python 3.11 with venv and pip; pip installs uv, uv installs the rest.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uv_environment import read_pip_settings, uv_environment, uv_options

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "evoloom-setup.json"
REQUIREMENTS = ROOT / "requirements"
BOOTSTRAP = REQUIREMENTS / "bootstrap.txt"
# Raise this when set-up itself changes so that environments must be brought up to date.
VERSION = "1"

_TORCH_HINT = """
If it is torch that was not found: the lock names its CPU build. Name PyTorch's CPU index, which its
install page gives, and run this again:
  EVOLOOM_TORCH_INDEX=<that index> make setup"""


class SetupError(Exception):
    """Raised when a step fails; its text is for the person who ran make."""


def main() -> int:
    """Bring the environment up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("cpu", "gpu"), default="cpu")
    lock = REQUIREMENTS / f"{parser.parse_args().engine}-dev.txt"
    try:
        with _one_at_a_time():
            _set_up(lock)
    except SetupError as exc:
        print(f"evoloom: set-up failed: {exc}", file=sys.stderr)
        return 1
    return 0


def _set_up(lock: Path) -> None:
    stamp = _read_stamp()
    interpreter = f"{sys.version} {os.path.realpath(sys.executable)}"
    # Console scripts hold the environment's absolute path: moved, it must be made again.
    environment = _digest(VERSION, interpreter, str(ENVIRONMENT))
    packages = _digest(environment, lock.read_text(), BOOTSTRAP.read_text())
    project = _digest(packages, (ROOT / "pyproject.toml").read_text())

    if stamp.get("environment") != environment or not PYTHON.exists():
        _write_stamp(stamp := {})
        _make_environment()
        _write_stamp(stamp := {"environment": environment})
    if stamp.get("packages") != packages:
        _write_stamp(stamp := {"environment": environment})
        _install_packages(lock)
        _write_stamp(stamp := stamp | {"packages": packages})
    if stamp.get("project") != project or not (ENVIRONMENT / "bin" / "evoloom").exists():
        _install_project()
        _write_stamp(stamp := stamp | {"project": project})
    if not stamp.get("model") or not Path(stamp["model"]).exists():
        _write_stamp(stamp | {"model": str(_unpack_model())})


def _make_environment() -> None:
    if PYTHON.exists() and _fits(PYTHON):
        return
    _say("making .venv")
    _run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], "the virtual environment")


def _fits(python: Path) -> bool:
    """Whether an environment that is there already is one of this Python, at this place."""
    probe = "import sys, pip; print(sys.version, sys.prefix, sep='\\n')"
    done = subprocess.run([python, "-I", "-c", probe], capture_output=True, text=True, check=False)
    made_here = any(
        line.partition("=")[2].strip().endswith(f" {ENVIRONMENT}")
        for line in _lines(ENVIRONMENT / "pyvenv.cfg")
        if line.startswith("command")
    )
    return made_here and done.stdout == f"{sys.version}\n{ENVIRONMENT}\n"


def _install_packages(lock: Path) -> None:
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
    _say("installing uv")
    _run([*pip, "install", "--quiet", "--require-hashes", "-r", BOOTSTRAP], "installing uv")
    settings = read_pip_settings(PYTHON)
    _say(f"installing the packages of {lock.relative_to(ROOT)} (about 3 GB)")
    command = [ENVIRONMENT / "bin" / "uv", "pip", "sync", "--python", PYTHON, "--require-hashes"]
    command += [*([] if sys.stderr.isatty() else ["--quiet"]), *uv_options(settings), lock]
    _run(command, "installing packages", env=uv_environment(settings), hint=_TORCH_HINT)


def _install_project() -> None:
    _say("installing evoloom")
    command = [ENVIRONMENT / "bin" / "uv", "pip", "install", "--python", PYTHON, "--quiet"]
    command += ["--offline", "--no-deps", "--no-build-isolation", "--reinstall-package", "evoloom"]
    _run([*command, "--editable", ROOT], "installing evoloom")


def _unpack_model() -> Path:
    """Unpack the bundled model; returns the folder it lies in."""
    program = [PYTHON, ROOT / "scripts" / "unpack_model.py"]
    output = _run(program, "unpacking the bundled model", keep_output=True)
    return Path(output.strip().splitlines()[-1])


def _run(
    command: list[str | Path],
    what: str,
    *,
    env: dict[str, str] | None = None,
    hint: str = "",
    keep_output: bool = False,
) -> str:
    """Run a step; its messages pass through, and what it prints is returned if it is to be kept."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if keep_output else None,
    )
    if done.returncode:
        raise SetupError(f"{what} (exit code {done.returncode}){hint}")
    return done.stdout or ""


def _read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(stamp: dict[str, str]) -> None:
    if not ENVIRONMENT.is_dir():
        return
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(stamp, indent=2) + "\n")
    temporary.replace(STAMP)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Targets of one `make -j`, or of two, set up one after the other."""
    descriptor = os.open(REQUIREMENTS, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another make is setting up; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
