"""The teacher client against real HTTP: what comes back for each answer and each failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from pipeline.records import Address, Completion, Refusal, Usage
from pipeline.run import sender as sender_module
from pipeline.run.requests import Message, TeacherRequest
from pipeline.run.sender import Sender
from pipeline.sections import TeacherSettings
from pipeline.teacher.client import TeacherClient
from pipeline.teacher.failures import (
    FinalTeacherError,
    TeacherSetupError,
    TransientTeacherError,
    refusal_kind,
)

PARAMETERS = {"model": "m", "max_tokens": 5, "temperature": 0.5, "stop": ["x"], "seed": 3}
TEXT = TeacherRequest(Address("a", (0,)), "Say hé ✓", PARAMETERS)
CHAT = TeacherRequest(
    Address("a", (0,)), (Message("system", "Be."), Message("user", "Hi")), PARAMETERS
)
NO_USAGE: dict[str, Any] = {}


def http(
    body: bytes | str | dict[str, Any] | list[Any] | None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
) -> bytes:
    data = (
        body
        if isinstance(body, bytes)
        else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(data)}",
    ]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def text_answer(text: Any = "an answer", **changes: Any) -> dict[str, Any]:
    answer = {
        "id": "1", "object": "text_completion", "created": 0, "model": "served",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }  # fmt: skip
    answer.update(changes)
    return answer


def chat_answer(finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    whole = {"role": "assistant", "content": "an answer", **message}
    choices = [{"index": 0, "message": whole, "finish_reason": finish_reason}]
    return text_answer(choices=choices)


Reply = Callable[[asyncio.StreamWriter], Any]


async def serve(reply: bytes | Reply, use: Callable[[str], Any]) -> tuple[Any, list[bytes]]:
    """Run `use(base_url)` against a server that answers everything with `reply`."""
    requests: list[bytes] = []
    open_replies: list[asyncio.Task[Any]] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
             if line.startswith(b"content-length:")), 0,
        )  # fmt: skip
        requests.append(head + await reader.readexactly(length))
        try:
            if callable(reply):
                open_replies.append(task := asyncio.ensure_future(reply(writer)))
                await task
            else:
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        return await use(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"), requests
    finally:
        for task in open_replies:
            task.cancel()
        server.close()


def ask(
    reply: bytes | Reply, request: TeacherRequest = TEXT, **settings: Any
) -> tuple[Completion | Refusal, list[bytes]]:
    async def use(base_url: str) -> Completion | Refusal:
        async with TeacherClient(base_url, TeacherSettings(**settings)) as client:
            return await client.complete(request)

    return asyncio.run(serve(reply, use))


def preflight(reply: bytes | Reply, **settings: Any) -> tuple[str, list[bytes]]:
    async def use(base_url: str) -> str:
        async with TeacherClient(base_url, TeacherSettings(**settings)) as client:
            return (await client.preflight()).name

    return asyncio.run(serve(reply, use))


def failing(kind: type[Exception], reply: bytes | Reply, **settings: Any) -> Any:
    with pytest.raises(kind) as caught:
        ask(reply, **settings)
    return caught.value


class TestAnswers:
    @pytest.mark.parametrize(
        ("request_", "answer", "expected"),
        [
            (TEXT, text_answer(), Completion("an answer", "stop", Usage(7, 2, 0), "served")),
            (CHAT, chat_answer(), Completion("an answer", "stop", Usage(7, 2, 0), "served")),
            (TEXT, text_answer(" é✓\n"), Completion(" é✓\n", "stop", Usage(7, 2), "served")),
            (TEXT, text_answer(""), Completion("", "stop", Usage(7, 2), "served")),
            (TEXT, text_answer("a\ud83d"), Completion("a\ufffd", "stop", Usage(7, 2), "served")),
            (TEXT, text_answer("😀"), Completion("😀", "stop", Usage(7, 2), "served")),
            (TEXT, text_answer(model=None), Completion("an answer", "stop", Usage(7, 2), "")),
            (CHAT, chat_answer("length"), Completion("an answer", "length", Usage(7, 2), "served")),
            (CHAT, chat_answer(content=None, refusal="I cannot."),
             Completion("I cannot.", "stop", Usage(7, 2), "served")),
            (CHAT, chat_answer("content_filter", content=None),
             Completion("", "content_filter", Usage(7, 2), "served")),
        ],
    )  # fmt: skip
    def test_read(self, request_, answer, expected):
        assert ask(http(answer), request_)[0] == expected

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            (None, None),
            ({}, None),
            ([1], None),
            ("7", None),
            ({"prompt_tokens": "7"}, None),
            ({"prompt_tokens": -1}, None),
            ({"prompt_tokens": 7}, Usage(7, 0, 0)),
            ({"prompt_tokens": 7, "completion_tokens": None}, Usage(7, 0, 0)),
            ({"prompt_tokens": 7, "completion_tokens": "2"}, Usage(7, 0, 0)),
            ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None},
             Usage(7, 2, 0)),
            ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": [1]},
             Usage(7, 2, 0)),
            ({"prompt_tokens": 7, "completion_tokens": 2,
              "prompt_tokens_details": {"cached_tokens": 5}}, Usage(7, 2, 5)),
            ({"prompt_tokens": 7, "completion_tokens": 2,
              "prompt_tokens_details": {"cached_tokens": None}}, Usage(7, 2, 0)),
            ({"prompt_tokens": 7, "completion_tokens": 2,
              "prompt_tokens_details": {"cached_tokens": 9}}, Usage(7, 2, 7)),
        ],
    )  # fmt: skip
    def test_usage(self, usage, expected):
        assert ask(http(text_answer(usage=usage)))[0].usage == expected

    def test_usage_missing(self):
        answer = text_answer()
        del answer["usage"]
        assert ask(http(answer))[0].usage is None

    @pytest.mark.parametrize(
        ("request_", "path"), [(TEXT, b"/v1/completions"), (CHAT, b"/v1/chat/completions")]
    )
    def test_what_is_sent(self, request_, path):
        sent = ask(http(text_answer() if request_ is TEXT else chat_answer()), request_)[1]
        assert len(sent) == 1
        head, _, body = sent[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST " + path + b" HTTP/1.1\r\n")
        assert json.loads(body) == request_.body()

    def test_fields_beyond_openai_reach_the_body(self):
        parameters = {**PARAMETERS, "structured_outputs": {"choice": ["Yes", "No"]}}
        request = TeacherRequest(TEXT.address, "Say", parameters)
        sent = ask(http(text_answer()), request)[1]
        assert json.loads(sent[0].partition(b"\r\n\r\n")[2]) == request.body()

    @pytest.mark.parametrize("how", [ask, preflight])
    def test_key_is_sent_only_where_there_is_one(self, how, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "somebody-elses")
        reply = http(text_answer(data=[{"id": "m", "object": "model"}]))
        assert b"authorization" not in how(reply)[1][0].lower()
        head = how(reply, api_key="sk-mine")[1][0].lower()
        assert b"\r\nauthorization: bearer sk-mine\r\n" in head


class TestPassingFailures:
    """The identical request may be sent again."""

    @pytest.mark.parametrize(
        ("reply", "part"),
        [
            (http("{"), "not valid JSON"),
            (http(""), "not valid JSON"),
            (http(b'{"choices": "\xff"}'), "not valid JSON"),
            (http("<html>hi</html>", content_type="text/html"), "JSON"),
            (http("null"), "choices"),
            (http("[]"), "choices"),
            (http('"x"'), "choices"),
            (http({}), "choices"),
            (http(text_answer(choices=[])), "choices"),
            (http(text_answer(choices=None)), "choices"),
            (http(text_answer(choices={"a": 1})), "choices"),
            (http(text_answer(choices=[None])), "choices"),
            (http(text_answer(choices=["a"])), "choices"),
            (http(text_answer(text=None)), "text"),
            (http(text_answer(text=5)), "text"),
            (http(text_answer(choices=[{"text": "a"}])), "finish_reason"),
            (http(text_answer(choices=[{"text": "a", "finish_reason": None}])), "finish_reason"),
            (http(text_answer(choices=[{"message": "a", "finish_reason": "stop"}])), "text"),
            (http(text_answer())[:-9], "closed"),
        ],
    )
    def test_unusable_answer(self, reply, part):
        error = failing(TransientTeacherError, reply)
        assert part in str(error)
        assert error.retry_after_s is None

    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 529])
    def test_status(self, status):
        error = failing(TransientTeacherError, http({"error": {"message": "busy now"}}, status))
        assert str(error) == f"{status} busy now"
        assert error.overload == (status in (408, 429, 503, 504, 529))

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, None),
            ({"Retry-After": "7"}, 7.0),
            ({"Retry-After": "0.5"}, 0.5),
            ({"Retry-After": "-3"}, 0.0),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "nan"}, None),
            ({"Retry-After": "inf"}, None),
            ({"retry-after-ms": "1500"}, 1.5),
            ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
            ({"Retry-After": formatdate(0, usegmt=True)}, 0.0),
        ],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after(self, headers, expected, status):
        error = failing(TransientTeacherError, http({}, status, headers))
        assert error.retry_after_s == expected

    def test_retry_after_a_date(self, monkeypatch):
        monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
        date = formatdate(1_000_000_090, usegmt=True)
        error = failing(TransientTeacherError, http({}, 429, {"Retry-After": date}))
        assert error.retry_after_s == 90.0

    def test_connection_refused(self):
        async def use(base_url: str) -> None:
            async with TeacherClient("http://127.0.0.1:9/v1", TeacherSettings()) as client:
                await client.complete(TEXT)

        with pytest.raises(TransientTeacherError, match=r"[Cc]onnect"):
            asyncio.run(use(""))

    def test_connection_reset(self):
        async def reset(writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        failing(TransientTeacherError, reset)

    @pytest.mark.parametrize("drips", [False, True])
    def test_no_answer_in_time(self, drips):
        async def slow(writer: asyncio.StreamWriter) -> None:
            writer.write(http(text_answer()).split(b"\r\n\r\n")[0] if drips else b"")
            while True:
                await asyncio.sleep(0.05)
                if drips:  # each byte alone would start the time-out again
                    writer.write(b"\r\nX-A: b")
                    await writer.drain()

        error = failing(TransientTeacherError, slow, timeout_s=0.3)
        assert "time" in str(error).lower()
        assert error.overload


REFUSALS = [
    (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens. However, "
     "you requested 9001 tokens.", "context_length"),
    (400, 400, "This model's maximum context length is 4096 tokens. However, your request has 5000 "
     "input tokens. Please reduce the length of the input messages.", "context_length"),
    (400, None, "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
     "context_length"),
    (400, 400, "the request exceeds the available context size. try increasing the context size",
     "context_length"),
    (400, None, "request (9000 tokens) exceeds the available context size (4096 tokens)",
     "context_length"),
    (422, None, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: "
     "2000 `inputs` tokens and 350 `max_new_tokens`", "context_length"),
    (422, None, "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
     "context_length"),
    (400, None, "prompt is too long: 209071 tokens > 200000 maximum", "context_length"),
    (400, None, "The input token count (1100000) exceeds the maximum number of tokens allowed "
     "(1048576).", "context_length"),
    (400, None, "Please reduce the length of the messages or completion.", "context_length"),
    (413, "context_length_exceeded", "too large", "context_length"),
    (400, "content_filter", "The response was filtered due to the prompt triggering Azure OpenAI's "
     "content management policy.", "content_policy"),
    (400, "content_policy_violation", "Your request was rejected.", "content_policy"),
    (400, None, "Your request was rejected as a result of our safety system.", "content_policy"),
]  # fmt: skip


class TestRefusals:
    """About this request alone: an outcome, and no failure."""

    @pytest.mark.parametrize(("status", "code", "message", "kind"), REFUSALS)
    def test_recognised(self, status, code, message, kind):
        body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
        assert ask(http(body, status))[0] == Refusal(kind, message)

    @pytest.mark.parametrize(
        "body",
        [
            {"object": "error", "message": "maximum context length is 4096 tokens", "code": 400},
            {"error": "Input validation error: `inputs` must have less than 1024 tokens.",
             "error_type": "validation"},
            {"detail": [{"msg": "the maximum context length is 5"}]},
            "maximum context length is 4096 tokens",
        ],
    )  # fmt: skip
    def test_bodies_of_other_shapes(self, body):
        outcome = ask(http(body, 400))[0]
        assert isinstance(outcome, Refusal)
        assert outcome.kind == "context_length"

    @pytest.mark.parametrize(
        "message",
        ["", "Unsupported parameter: 'seed'", "max_tokens must be at least 1", "model not found",
         "Invalid value for 'stop'", "You exceeded your current quota"],
    )  # fmt: skip
    def test_not_recognised(self, message):
        assert refusal_kind(message) is None


class TestFinalFailures:
    """No other request would be answered differently."""

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
    def test_status(self, status):
        body = {"error": {"message": "Unsupported parameter: 'seed'"}}
        error = failing(FinalTeacherError, http(body, status))
        assert str(error) == f"the teacher answered {status}: Unsupported parameter: 'seed'"

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_never_a_refusal_whatever_the_text(self, status):
        failing(FinalTeacherError, http({"error": {"message": "context length"}}, status))

    @pytest.mark.parametrize("body", ["<html>gone</html>", "", "null", '{"error": null}', "[1]"])
    def test_other_bodies(self, body):
        assert "404" in str(failing(FinalTeacherError, http(body, 404)))

    def test_the_key_is_not_repeated(self):
        error = failing(FinalTeacherError, http({"error": {}}, 401), api_key="sk-secret-1")
        assert "sk-secret-1" not in str(error)


def models(*names: str) -> bytes:
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in names]
    return http({"object": "list", "data": rows})


class TestPreflight:
    @pytest.mark.parametrize(
        ("reply", "wanted", "expected"),
        [
            (models("a"), None, "a"),
            (models("a", "b"), "b", "b"),
            (models(), "b", "b"),
            (http({}, 404), "b", "b"),
            (http({}, 405), "b", "b"),
        ],
    )
    def test_model(self, reply, wanted, expected):
        model, requests = preflight(reply, model=wanted)
        assert model == expected
        assert requests[0].startswith(b"GET /v1/models ")

    @pytest.mark.parametrize(
        ("reply", "wanted", "parts"),
        [
            (models("a", "b"), None, ["2 models", "a, b", "teacher.model"]),
            (models("a", "b"), "c", ["no model 'c'", "a, b", "EVOLOOM_TEACHER__MODEL"]),
            (models(), None, ["lists no model", "teacher.model"]),
            (
                http({"error": {"message": "bad"}}, 401),
                "a",
                ["key", "401", "EVOLOOM_TEACHER__API_KEY"],
            ),
            (http({}, 403), None, ["key", "403"]),
            (http("nope", 404), None, ["404", "/v1"]),
            (http({}, 500), "a", ["500", "/v1"]),
            (http("<html>", content_type="text/html"), "a", ["not with the JSON", "/v1"]),
            (http("<html>"), "a", ["not with the JSON", "/v1"]),
            (http("null"), None, ["not with the JSON"]),
            (http("[1]"), None, ["not with the JSON"]),
            (models("a")[:-5], "a", ["not reachable", "EVOLOOM_TEACHER__BASE_URL"]),
        ],
    )
    def test_refused(self, reply, wanted, parts):
        with pytest.raises(TeacherSetupError) as caught:
            preflight(reply, model=wanted)
        for part in ["http://127.0.0.1", *parts]:
            assert part in str(caught.value)
        assert caught.value.exit_code == 2

    def test_nobody_there(self):
        async def use() -> None:
            async with TeacherClient("http://127.0.0.1:9/v1", TeacherSettings()) as client:
                await client.preflight()

        with pytest.raises(TeacherSetupError, match=r"127.0.0.1:9/v1: not reachable .*start it"):
            asyncio.run(use())

    def test_nobody_there_of_several(self):
        settings = TeacherSettings(endpoints=("http://127.0.0.1:9/v1", "http://127.0.0.1:19/v1"))

        async def use() -> None:
            async with TeacherClient("http://127.0.0.1:9/v1", settings) as client:
                await client.preflight()

        with pytest.raises(TeacherSetupError, match=r"not reachable .*correct teacher\.endpoints"):
            asyncio.run(use())


class TestRetryWaits:
    """How long the sender waits between two attempts: `retry_base_s`, `retry_max_s`."""

    def waits(
        self, monkeypatch, errors: list[TransientTeacherError], **settings: Any
    ) -> list[float]:
        waited: list[float] = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        class Teacher:
            async def complete(self, request: TeacherRequest) -> Completion:
                if errors:
                    raise errors.pop(0)
                return Completion("a", "stop", None)

        monkeypatch.setattr(sender_module.asyncio, "sleep", sleep)
        sender = Sender(Teacher(), TeacherSettings(pause_after=99, **settings))
        asyncio.run(sender.ask(TEXT))
        return waited

    def test_doubles_up_to_the_longest(self, monkeypatch):
        errors = [TransientTeacherError("x") for _ in range(7)]
        waited = self.waits(monkeypatch, errors, retry_base_s=2.0, retry_max_s=20.0)
        for wait, whole in zip(waited, [2, 4, 8, 16, 20, 20, 20], strict=True):
            assert whole / 2 <= wait <= whole

    def test_jitter(self, monkeypatch):
        errors = [TransientTeacherError("x") for _ in range(7)]
        waited = self.waits(monkeypatch, errors, retry_base_s=4.0, retry_max_s=4.0)
        assert len(set(waited)) > 1

    def test_what_the_endpoint_asks_for_comes_first(self, monkeypatch):
        errors = [TransientTeacherError("x", 50.0), TransientTeacherError("x", 0.0)]
        waited = self.waits(monkeypatch, errors, retry_base_s=2.0, retry_max_s=20.0)
        assert 50.0 <= waited[0] <= 50.2
        assert 0.0 <= waited[1] <= 0.2
