"""Two runs share one vLLM; the first is killed; the second finishes; then none is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openai import OpenAI

from pipeline.teacher import processes
from pipeline.teacher.engine import Engine, engine_folder, engine_status
from pipeline.teacher.engine_settings import EngineSettings

# Leases, then answers each line of its standard input with the model's completion of it.
USER = """
import json, sys
from openai import OpenAI
from pipeline.teacher.engine import lease_engine
from pipeline.teacher.engine_settings import EngineSettings
with lease_engine(EngineSettings(**json.loads(sys.argv[1]))) as engine:
    client = OpenAI(base_url=engine.base_url, api_key="-", max_retries=0)
    print(engine.pid, flush=True)
    for line in sys.stdin:
        answer = client.completions.create(
            model=engine.model, prompt=line.strip(), max_tokens=8, temperature=0
        )
        print(json.dumps(answer.choices[0].text), flush=True)
"""


def new_user(settings: EngineSettings) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, settings.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def ask(user: subprocess.Popen[str], line: str) -> str:
    assert user.stdin
    assert user.stdout
    user.stdin.write(f"{line}\n")
    return str(json.loads(user.stdout.readline()))


def pid_of_engine(user: subprocess.Popen[str]) -> int:
    assert user.stdout
    return int(user.stdout.readline())


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[EngineSettings]:
    """The user's own cache of unpacked weights, but an engine of our own."""
    settings = EngineSettings(state_dir=tmp_path / "engine")
    yield settings
    processes.stop_marked(engine_folder(settings).mark, None, grace_s=0.0)


def engine_processes(settings: EngineSettings) -> list[psutil.Process]:
    """Found by their environment, whatever their parent and group."""
    mark = (processes.MARK, engine_folder(settings).mark)
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().items() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(settings: EngineSettings) -> None:
    psutil.wait_procs(engine_processes(settings), timeout=60)
    assert engine_processes(settings) == []
    # The watchdog removes its record last.
    while engine_status(settings).state == "stopping":
        pass
    assert engine_status(settings).state == "stopped"


def test_engine_is_shared_survives_a_killed_user_and_ends_with_the_last(
    settings: EngineSettings,
) -> None:
    first, second = new_user(settings), new_user(settings)
    with first, second:
        pid = pid_of_engine(first)
        assert pid_of_engine(second) == pid
        assert "Paris" in ask(first, "The capital of France is")
        running = engine_processes(settings)
        assert pid in {process.pid for process in running}
        assert len(running) > 1, "vLLM's own children are not found"
        first.kill()
        first.wait()
        assert "Paris" in ask(second, "The capital of France is")
        assert engine_status(settings).pid == pid
        assert second.stdin
        second.stdin.close()
        assert second.wait() == 0
    wait_until_gone(settings)


def test_prompts_longer_than_a_batch_with_a_sampling_seed(engine: Engine) -> None:
    """vLLM 0.32 on the CPU dies of a seeded request whose prompt it computes in pieces."""
    client = OpenAI(base_url=engine.base_url, api_key="-", max_retries=0)
    prompt = "Come up with a series of tasks. " * 300
    answer = client.completions.create(
        model=engine.model, prompt=prompt, max_tokens=2, temperature=1.0, seed=7
    )
    assert answer.usage
    assert answer.usage.prompt_tokens > 2048
    engine.check()
