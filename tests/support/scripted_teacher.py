"""A scripted teacher: a real HTTP server whose answers are a function of the whole request.

It is for faults, determinism and load. Run it as a process: it prints its port and serves until it
is killed. Every request that it answered is appended to a log, one JSON line: hash, stage, status,
the sampling seed (which no two addresses of a run share); status 0 is one that it never answers.

`--answers mixed` gives near-duplicates, malformed, truncated and chatty answers among sound ones;
`--answers valid` answers every stage validly, with instructions that are all new (for load).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

VERBS = """arrange balance compose describe estimate find gather highlight invent justify kindle list
measure name outline paint question rank sketch translate unify verify weigh explain yield zip adapt
build chart defend edit forecast grade hide inspect join keep label modify note order pair quote
review shorten test update validate widen""".split()
NOUNS = """apple bridge candle desert engine forest garden harbour island jungle kettle ladder market
needle orchard planet quarry river summit tunnel umbrella valley window xylophone yard zebra anchor
basket castle dragon elephant feather glacier hammer insect jacket kingdom lantern mirror notebook
ocean pencil queen rocket saddle teapot uncle violin whale yacht barrel cradle""".split()
EXTRAS = """slowly briefly with care in two lines for a child as a table without numbers at dawn using
metaphors under ten words before lunch from memory by weight per region and explain why despite rain
within reason like a poet among friends over time through history beyond doubt""".split()


UNFIT = (
    "Do it.",
    "Draw a picture of a cat.",
    "",
    "-> ???",
    "Write a program to sort numbers.",
    "写一首关于春天的诗给我的朋友",
)


ENDINGS = {
    "#Rewritten Prompt#:": "evolve",
    "#Created Prompt#:": "evolve",
    "as input):": "evolve",
    "Your Judgement (just Equal or Not Equal):": "judge",
    "### Response:": "respond",
    "## Score:": "rate",
    "### Rating:": "quality",
}


def stage_of(prompt: str) -> str:
    """Which of the stages a prompt asks for."""
    for ending, stage in ENDINGS.items():
        if prompt.rstrip().endswith(ending):
            return stage
    if prompt.rstrip().endswith("Is it classification?"):
        return "classify"
    if re.search(r"\n(Task )?\d+[.:]$", prompt.rstrip()):
        return "generate"
    return "output_first" if "Class label:" in prompt else "input_first"


def sentence(rng: random.Random, extra: int = 4) -> str:
    words = [
        rng.choice(VERBS).capitalize(),
        "the",
        rng.choice(NOUNS),
        "and",
        "the",
        rng.choice(NOUNS),
    ]
    words += rng.sample(EXTRAS, rng.randint(1, extra))
    return " ".join(words) + "."


def unique_sentence(rng: random.Random) -> str:
    """Ten made-up words: never near another."""
    words = ["".join(rng.choices("bcdfglmnprstv", k=2)) + rng.choice("aeiou")
             + "".join(rng.choices("bdgklmnprst", k=2)) for _ in range(10)]  # fmt: skip
    return words[0].capitalize() + " " + " ".join(words[1:]) + "."


def answer(body: dict[str, Any], mode: str) -> tuple[str, str]:
    """(text, finish_reason) for a request: nothing but a hash of it decides."""
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False)
    rng = random.Random(hashlib.sha256(canonical.encode()).hexdigest())
    prompt = body.get("prompt") or "\n".join(item["content"] for item in body["messages"])
    stage = stage_of(prompt)
    if mode == "valid":
        return _valid(stage, prompt, rng)
    makers = {"generate": _generate, "classify": _classify, "evolve": _evolve, "judge": _judge,
              "respond": _respond, "rate": _rate, "quality": _quality}  # fmt: skip
    return makers.get(stage, _instances)(stage, prompt, rng)


def _valid(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    if stage == "generate":
        items = [unique_sentence(rng) for _ in range(7)]
        return " " + "\n".join(
            item if number == 9 else f"{number}. {item}" for number, item in enumerate(items, 9)
        ), "stop"
    if stage == "classify":
        return (" Yes" if rng.random() < 0.2 else " No"), "stop"
    if stage in ("evolve", "respond"):
        return unique_sentence(rng), "stop"
    if stage == "judge":
        return "Not Equal", "stop"
    if stage == "rate":
        return str(rng.randint(1, 10)), "stop"
    if stage == "quality":
        return _ratings(prompt, rng), "stop"
    if stage == "output_first":
        return f" Class label: yes\nSentence: {sentence(rng)}\n", "stop"
    return f" Example 1\nSentence: {sentence(rng)}\nOutput: {sentence(rng)}\n", "stop"


def _generate(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.04:
        return "", "stop"
    if draw < 0.08:
        return "Sure! I would be glad to help with that, but I have no list", "stop"
    shots = re.findall(r"^\d+\. (.+)$", prompt, re.MULTILINE)
    items = []
    for _ in range(rng.randint(1, 7)):
        kind = rng.random()
        if kind < 0.25 and shots:
            words = rng.choice(shots).split()
            words[rng.randrange(len(words))] = rng.choice(NOUNS)
            items.append(" ".join(words))
        elif kind < 0.35:
            items.append(rng.choice(UNFIT))
        else:
            items.append(sentence(rng))
    text = (
        " " + items[0] + "".join(f"\n{number}. {item}" for number, item in enumerate(items[1:], 10))
    )
    return text, "length" if rng.random() < 0.08 else "stop"


def _classify(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    return rng.choice([" Yes", " No", " No", " No.", " Maybe", ""]), "stop"


def _instances(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.1:
        return rng.choice(["", " Class label: a", "I cannot do that.", "Output:"]), "stop"
    if stage == "output_first":
        text = "".join(f" Class label: {rng.choice(NOUNS)}\nSentence: {sentence(rng)}\n"
                       for _ in range(rng.randint(1, 3)))  # fmt: skip
    elif draw < 0.5:
        text = f"Output: {sentence(rng)}"
    else:
        text = "".join(f"Example {n}\nSentence: {rng.choice(NOUNS)}\nOutput: {sentence(rng)}\n\n"
                       for n in range(1, rng.randint(2, 4)))  # fmt: skip
    return text, "length" if rng.random() < 0.1 else "stop"


def _evolve(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    shown = re.findall(r"Prompt#?:\n(.+)", prompt)
    parent = shown[-1] if shown else sentence(rng)
    if draw < 0.06:
        return "", "stop"
    if draw < 0.14:
        return f"#Rewritten Prompt#: {sentence(rng)}", "stop"
    if "#Created Prompt#" in prompt and draw < 0.45:
        words = parent.split()
        words[rng.randrange(len(words))] = rng.choice(NOUNS)
        return " ".join(words), "stop"
    text = sentence(rng) if "#Created Prompt#" in prompt else f"{parent} {sentence(rng)}"
    return text, "length" if rng.random() < 0.06 else "stop"


def _judge(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    said = ["Not Equal"] * 6 + ["Equal", "Equal.", "They are not equal.", "I think so", "",
                                "Equal or not equal, who knows"]  # fmt: skip
    return rng.choice(said), "stop"


def _respond(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.1:
        return "I am sorry, but I cannot help with that.", "stop"
    if draw < 0.2:
        return rng.choice(["", "...", "It is what it is.", "And so on, and so on!"]), "stop"
    text = " ".join(sentence(rng) for _ in range(rng.randint(1, 3)))
    return text, "length" if rng.random() < 0.1 else "stop"


def _quality(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    said = _ratings(prompt, rng)
    draw = rng.random()
    if draw < 0.15:
        return rng.choice(["", "It is good.", said[: len(said) // 2], "4"]), "stop"
    return (f"Here it is: {said} Bye." if draw < 0.3 else said), "stop"


def _ratings(prompt: str, rng: random.Random) -> str:
    names = re.findall(r"^- (\w+): ", prompt, re.MULTILINE)
    return json.dumps({name: {"reason": sentence(rng), "score": rng.choice((3, 4, 5, 5, 5))}
                       for name in names})  # fmt: skip


def _rate(stage: str, prompt: str, rng: random.Random) -> tuple[str, str]:
    return rng.choice(
        ["3", "7", "10", " 5/10", "Score: 4", "hard", "8.5", "between 3 and 6"]
    ), "stop"


def operator_of(prompt: str) -> str | None:
    """Which operator's prompt it is, by what no other prompt says."""
    marks = {
        "one more constraint or requirement": "add_constraints",
        "make the inquiry go deeper": "deepen",
        "replace general concepts": "concretise",
        "asks for several steps of reasoning": "reasoning_steps",
        "MUST add text in the format": "complicate_input",
        "#Created Prompt#": "breadth",
    }
    found = [name for mark, name in marks.items() if mark in prompt]
    return found[0] if found else None


class ScriptedTeacher:
    """Serves answers over HTTP/1.1 with keep-alive."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.clock = random.Random()
        self.log = options.log.open("a", buffering=1) if options.log else None
        self.served = self.matched = 0
        self.rules = json.loads(options.rules.read_text()) if options.rules else []
        self.in_flight = 0
        self.slots = asyncio.Semaphore(options.slots) if options.slots else None
        self.busy: list[tuple[float, float, str, int, int | None]] = []
        self.stuck = re.compile(options.stuck) if options.stuck else None
        self.hanging = re.compile(options.hang) if options.hang else None
        self.faulty = re.compile(options.fault_prompt) if options.fault_prompt else None

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                if self.options.key and f"Bearer {self.options.key}\r\n".encode() not in head:
                    writer.write(encode(401, {"error": {"message": "another key"}}))
                    continue
                writer.write(await self.reply(method, path, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def reply(self, method: str, path: str, body: bytes) -> bytes:
        if method == "GET" and path.endswith("/models"):
            row = {
                "id": self.options.model,
                "object": "model",
                "created": 0,
                "owned_by": self.options.owner,
            }
            return encode(200, {"object": "list", "data": [row]})
        if method == "GET" and path == "/busy":
            return encode(200, self.busy)
        request = json.loads(body)
        if self.slots:
            async with self.slots:
                return await self.completion(request, chat="chat" in path)
        return await self.completion(request, chat="chat" in path)

    async def completion(self, request: dict[str, Any], *, chat: bool) -> bytes:
        loop = asyncio.get_running_loop()
        started = loop.time()
        low, high = self.options.latency
        await asyncio.sleep(self.clock.uniform(low, high))
        prompt = request.get("prompt") or request["messages"][-1]["content"]
        if self.hanging and self.hanging.search(prompt):
            if self.log:
                self.log.write(json.dumps({"status": 0, "seed": request.get("seed")}) + "\n")
            await asyncio.Event().wait()
        status = self.fault(request, prompt)
        text, finish = self.scripted(prompt) or answer(request, self.options.answers)
        canonical = json.dumps(request, sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(canonical.encode()).hexdigest()
        self.served += 1
        stage = stage_of(prompt)
        if self.options.record_busy:
            self.busy.append((started, loop.time(), stage, status, request.get("seed")))
        if self.log:
            row = {"key": key, "stage": stage, "status": status, "seed": request.get("seed"),
                   "operator": operator_of(prompt), "fields": sorted(request),
                   "model": request.get("model"), "chat": chat}  # fmt: skip
            self.log.write(json.dumps(row) + "\n")
        if status != 200:
            message = self.options.fault_message
            return encode(status, {"error": {"message": message, "code": None}})
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage: dict[str, Any] = {
            "prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4 + 1,
            "total_tokens": (len(prompt) + len(text)) // 4 + 1,
        }  # fmt: skip
        if self.options.cached_share:
            cached = int(usage["prompt_tokens"] * self.options.cached_share)
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        value = {"id": key[:8], "object": "text_completion", "created": 0,
                 "model": self.options.model, "choices": [choice], "usage": usage}  # fmt: skip
        if self.options.no_usage:
            del value["usage"]
        return encode(200, value)

    def scripted(self, prompt: str) -> tuple[str, str] | None:
        """The answer of the first rule (pattern, text, finish reason) whose pattern is found."""
        for pattern, text, finish in self.rules:
            if re.search(pattern, prompt):
                return text, finish
        return None

    def fault(self, request: dict[str, Any], prompt: str) -> int:
        if self.stuck and self.stuck.search(prompt):
            return 500
        options = self.options
        if self.faulty or options.fault_stage:
            stage = stage_of(prompt).replace("input_first", "instances")
            stage = stage.replace("output_first", "instances")
            if (self.faulty and not self.faulty.search(prompt)) or (
                options.fault_stage not in (None, stage)
            ):
                return 200
            self.matched += 1
            past = self.matched - options.fault_skip
            return int(options.fault_status) if 0 < past <= options.fault_times else 200
        if self.options.fail_after is not None and self.served >= self.options.fail_after:
            return int(self.options.fault_status)
        if self.clock.random() < self.options.fault_rate:
            return int(self.options.fault_status)
        return 200


def encode(status: int, value: Any) -> bytes:
    body = json.dumps(value).encode()
    kind = "Content-Type: application/json"
    head = f"HTTP/1.1 {status} X\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(teacher: ScriptedTeacher) -> None:
    options = teacher.options
    server = await asyncio.start_server(
        teacher.connection, "127.0.0.1", options.port, limit=2**22, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--answers", choices=["mixed", "valid"], default="mixed")
    parser.add_argument("--rules", type=Path, help="JSON: [[pattern, text, finish reason], ...]")
    parser.add_argument("--owner", default="tests", help="what GET /models says owns the model")
    parser.add_argument("--latency", type=float, nargs=2, default=(0.0, 0.01))
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--record-busy", action="store_true")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--fault-status", type=int, default=500)
    parser.add_argument("--fault-message", default="scripted fault")
    parser.add_argument("--fault-prompt", help="only prompts that match this get the fault")
    parser.add_argument("--fault-stage", help="only requests of this stage get the fault")
    parser.add_argument("--fault-skip", type=int, default=0, help="so many of them do not")
    parser.add_argument("--fault-times", type=int, default=10**9, help="after these, as many do")
    parser.add_argument("--fail-after", type=int)
    parser.add_argument("--stuck", help="prompts that match this always fail with 500")
    parser.add_argument("--hang", help="prompts that match this are never answered")
    parser.add_argument("--no-usage", action="store_true")
    parser.add_argument("--key", help="the only key that is accepted")
    parser.add_argument("--cached-share", type=float, default=0.0,
                        help="how much of a prompt is said to be cached")  # fmt: skip
    return parser


def main() -> None:
    asyncio.run(serve(ScriptedTeacher(arguments().parse_args(sys.argv[1:]))))


if __name__ == "__main__":
    main()
