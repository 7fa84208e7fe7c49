"""Processes that parse: real ones."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.diversity import VerbNoun, analyse
from pipeline.diversity.parsing import parse_texts
from pipeline.diversity.pooling import ParserError, parse_chunks

BOTH = ("mended", "published")
# One sentence as it stands, several, prepared, repaired, none, in no English.
TEXTS = [
    "Draw a map of the harbour.",
    "You are given a coin. Toss it, then draw it.",
    'Translate "the cat sat on the mat" into Dutch.',
    "Group these stamps by country.",
    "What is salt?",
    "Write a\nletter",
    "",
    "画一张地图",
    "I need you to bake a cake.",
]


def parsers():
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "pipeline.diversity.worker" in child.cmdline()
    ]


def test_both_rules_together_answer_as_each_alone():
    mended, published = parse_texts(TEXTS, BOTH)
    assert mended == analyse(TEXTS)
    assert published == analyse(TEXTS, "published")
    assert mended != published


def test_chunks_come_back_in_order_and_the_processes_end():
    verbs = ["Draw", "Paint", "Describe", "Fold", "Translate"]
    chunks = [[f"{verb} the map.", f"Could you {verb.lower()} a letter?"] for verb in verbs]
    found = list(parse_chunks(chunks, BOTH, 2))
    assert [chunk for chunk, _ in found] == chunks
    assert [[record.pair for record in mended] for _, (mended, _) in found] == [
        [(verb.lower(), "map"), (verb.lower(), "letter")] for verb in verbs
    ]
    assert parsers() == []


def test_closing_early_ends_the_processes():
    found = parse_chunks(([f"Draw {n} maps."] for n in range(50)), BOTH, 2)
    next(found)
    assert len(parsers()) == 2
    found.close()
    assert parsers() == []


def test_any_text_goes_through_the_pipe():
    texts = ["a\nb\r\n\u2028c\x00", "\ud800 draw", '"}]\\']
    ((chunk, (records,)),) = parse_chunks([texts], ["mended"], 1)
    assert chunk == texts and len(records) == 3


def test_a_killed_process_is_told_and_no_other_is_left():
    found = parse_chunks(([f"Draw {n} maps."] for n in range(50)), BOTH, 2)
    next(found)
    parsers()[0].send_signal(signal.SIGKILL)
    with pytest.raises(ParserError, match="exit status -9"):
        list(found)
    assert parsers() == []


def test_a_process_does_not_outlive_who_started_it():
    code = (
        "import os, time\n"
        "from pipeline.diversity.pooling import parse_chunks\n"
        "found = parse_chunks((['Draw a map.'] for _ in range(9)), ['mended'], 1)\n"
        "next(found)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout.readline() == "ready\n"
    (worker,) = psutil.Process(starter.pid).children()
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 60
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)


def test_a_record_survives_its_row():
    for record in (
        VerbNoun("imperative", "wash", "pear", (("peel", "pear"), ("eat", None))),
        VerbNoun("question", question_word="how"),
    ):
        assert VerbNoun.from_row(record.to_row()) == record


def test_parsing_does_not_load_torch():
    code = (
        "import sys\n"
        "from pipeline.diversity import analyse\n"
        "assert analyse(['Draw a map.'])[0].verb == 'draw'\n"
        "print('torch' in sys.modules)\n"
        "import torch\n"
        "print(torch.zeros(1).item())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n0.0\n"
