"""A scripted teacher that injects faults, each with a probability of its own.

What befalls a request is a function of a seed, of the request and of how often it has come: the
arrival order changes nothing. Each attempt is noted in the log, one JSON line: hash, sampling seed,
which fault it met (null: none), whether a complete answer was handed over, and when, in seconds. An
outage has a line of its own, with the seeds of answers that may have died in it.

The faults that are answers have the status as their name; the others:
`reset`: the connection is reset before a byte of the answer. `truncated`: it is closed in the middle
of the answer. `no_answer`: the answer never comes. `invalid_json`, `no_choices`: status 200, and an
answer that is none. `outage`: the port is closed, all connections are reset.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import struct
import sys
import time
from argparse import Namespace
from collections import Counter
from typing import Any

from tests.support.scripted_teacher import ScriptedTeacher, arguments, encode

FAULTS = (
    "429", "500", "502", "503", "504", "reset", "truncated", "no_answer", "invalid_json",
    "no_choices",
)  # fmt: skip
RETRY_AFTER_S = 1


class ChaoticTeacher(ScriptedTeacher):
    """Answers as the scripted teacher does, if it answers."""

    def __init__(self, options: Namespace) -> None:
        self.spread, options.latency = options.latency, (0.0, 0.0)
        super().__init__(options)
        self.probabilities: dict[str, float] = json.loads(options.faults)
        assert set(self.probabilities) <= set(FAULTS)
        self.attempts: Counter[str] = Counter()
        self.writers: dict[asyncio.StreamWriter, int | None] = {}
        self.server: asyncio.Server | None = None
        self.never = asyncio.Event()
        self.outages = [float(part) for part in options.outage_at]
        self.note = options.chaos_log.open("a", buffering=1)

    async def listen(self) -> int:
        """Open the port; returns it."""
        self.server = await asyncio.start_server(
            self.connection, "127.0.0.1", self.options.port, limit=2**22, backlog=512
        )
        self.options.port = self.server.sockets[0].getsockname()[1]
        return int(self.options.port)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers[writer] = None
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                     if line.startswith(b"content-length:")), 0,
                )  # fmt: skip
                body = await reader.readexactly(length)
                self.writers[writer] = None  # who asks again has read the answer before
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                if method == "GET":
                    writer.write(await self.reply(method, path, body))
                    await writer.drain()
                elif not await self.chaos(path, json.loads(body), writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.pop(writer, None)
            writer.close()

    async def chaos(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Answer one request or do what befalls it; returns whether the connection goes on."""
        key = json.dumps(body, sort_keys=True)
        self.attempts[key] += 1
        draws = random.Random(f"{self.options.chaos_seed}/{key}/{self.attempts[key]}")
        fault = self.draw(draws)
        low, high = self.spread
        await asyncio.sleep(math.exp(draws.uniform(math.log(low), math.log(high))))
        if fault == "no_answer":
            self.write(body, fault, whole=False)
            await self.never.wait()
        if fault == "reset":
            self.write(body, fault, whole=False)
            reset(writer)
            return False
        answer = await self.faulty_answer(fault, path, body)
        whole = fault is None
        if writer.is_closing():  # an outage came in between
            self.write(body, "outage", whole=False)
            return False
        writer.write(answer[: len(answer) * 2 // 3] if fault == "truncated" else answer)
        self.write(body, fault, whole=whole)
        if whole:
            self.writers[writer] = body.get("seed")
        await writer.drain()
        self.perhaps_outage()
        return fault != "truncated"

    def draw(self, draws: random.Random) -> str | None:
        point = draws.random()
        for fault, probability in self.probabilities.items():
            point -= probability
            if point < 0:
                return fault
        return None

    async def faulty_answer(self, fault: str | None, path: str, body: dict[str, Any]) -> bytes:
        if fault == "invalid_json":
            return head(200, b'{"choices": [{"text": "half of an ans')
        if fault == "no_choices":
            return encode(200, {"object": "text_completion", "choices": [], "usage": None})
        if fault is not None and fault.isdigit():
            text = json.dumps({"error": {"message": f"scripted {fault}"}}).encode()
            extra = f"Retry-After: {RETRY_AFTER_S}\r\n" if fault == "429" else ""
            return head(int(fault), text, extra)
        return await self.completion(body, chat="chat" in path)

    def write(self, body: dict[str, Any], fault: str | None, *, whole: bool) -> None:
        row = {"key": json.dumps(body, sort_keys=True), "seed": body.get("seed"), "fault": fault,
               "whole": whole, "at": round(time.monotonic(), 4)}  # fmt: skip
        self.note.write(json.dumps(row) + "\n")

    def perhaps_outage(self) -> None:
        if self.outages and sum(self.attempts.values()) >= self.outages[0]:
            self.outages.pop(0)
            self.outage = asyncio.create_task(self.go_away())

    async def go_away(self) -> None:
        assert self.server is not None
        self.server.close()
        # An answer that was handed to the kernel may die with its connection.
        row = {"key": None, "seed": None, "fault": "outage", "whole": False, "at": time.monotonic(),
               "maybe_lost": [seed for seed in self.writers.values() if seed is not None]}  # fmt: skip
        self.note.write(json.dumps(row) + "\n")
        for writer in list(self.writers):
            reset(writer)
        await asyncio.sleep(self.options.outage_s)
        await self.listen()


def head(status: int, body: bytes, extra: str = "") -> bytes:
    lines = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a process that dies does, or a firewall."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve(teacher: ChaoticTeacher) -> None:
    print(await teacher.listen(), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    from pathlib import Path

    parser = arguments()
    parser.add_argument("--faults", default="{}", help="JSON: probability of each fault")
    parser.add_argument("--chaos-seed", type=int, default=0)
    parser.add_argument("--chaos-log", type=Path, required=True)
    parser.add_argument("--outage-at", nargs="*", default=[], help="after so many requests")
    parser.add_argument("--outage-s", type=float, default=2.0)
    asyncio.run(serve(ChaoticTeacher(parser.parse_args(sys.argv[1:]))))


if __name__ == "__main__":
    main()
