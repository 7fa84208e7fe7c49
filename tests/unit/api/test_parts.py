"""Cursors, rates and the cache of answers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.caching import Cache
from api.paging import decode_cursor, encode_cursor
from api.problems import Problem
from api.rate import Rate


def test_a_cursor_comes_back_as_it_was_and_no_other_passes() -> None:
    place = ["night@2026-11-26.1", "evolve", 3, -1, "ab"]
    kinds = [str, str, int, int, str]
    assert decode_cursor(encode_cursor(place), kinds) == place
    assert decode_cursor(None, kinds) is None
    for wrong in ("", "a", "e30", encode_cursor([1]), encode_cursor([*place, 1]),
                  encode_cursor([*place[:2], 2**70, -1, "ab"]), encode_cursor([1, *place[1:]]),
                  encode_cursor([*place[:2], True, -1, "ab"])):  # fmt: skip
        with pytest.raises(Problem):
            decode_cursor(wrong, kinds)


def test_a_bucket_gives_its_burst_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = Rate(2.0, 3)
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]
    assert rate.take("a") == pytest.approx(0.5)
    assert rate.take("b") == 0
    now += 0.5
    assert rate.take("a") == 0
    assert rate.take("a") == pytest.approx(0.5)
    now += 1000.0
    assert [rate.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_a_body_is_made_once_for_all_who_want_it_and_a_failure_is_not_kept() -> None:
    cache = Cache()
    made = []
    begin = threading.Barrier(8)

    def make() -> bytes:
        made.append(1)
        time.sleep(0.05)
        return b"body"

    def want(_: int) -> bytes:
        begin.wait()
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(want, range(8))) == {b"body"}
    assert len(made) == 1

    def fail() -> bytes:
        raise ValueError

    with pytest.raises(ValueError):
        cache.get("other", fail)
    assert cache.get("other", lambda: b"now") == b"now"


def test_the_least_used_bodies_go_when_there_are_too_many() -> None:
    cache = Cache(most_bytes=100)
    made: list[str] = []

    def want(name: str) -> None:
        def make() -> bytes:
            made.append(name)
            return b"x" * 40

        cache.get(name, make)

    for name in ("a", "b", "a", "c", "a", "b"):
        want(name)
    assert made == ["a", "b", "c", "b"]
