"""Signals while a driver drives, and after it."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import Any

from flows.execution import _signals


class Driver:
    def __init__(self) -> None:
        self.stopped: list[str] = []

    def stop(self, reason: str) -> None:
        self.stopped.append(reason)


def test_a_driver_hears_a_signal_and_gives_it_back_to_who_listened_before() -> None:
    heard: list[int] = []

    def listen(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    async def drive(driver: Any) -> None:
        with _signals(driver):
            os.kill(os.getpid(), signal.SIGTERM)
            while not driver.stopped:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    driver = Driver()
    before = signal.signal(signal.SIGTERM, listen)
    try:
        asyncio.run(drive(driver))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert driver.stopped == ["SIGTERM"]
    assert heard == [signal.SIGTERM]
