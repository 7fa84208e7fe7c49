"""How much memory a training took at its peak: resident above that after imports, or the GPU's
allocator's peak."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SAMPLE_EVERY_S = 0.02


class PeakMemory:
    """Measures from the moment it is made, after the imports and before the model; bytes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._sampler: _Sampler | None = None
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            return
        self._before = _resident("VmRSS")
        try:
            # The kernel's own high-water mark, set back to what is resident now (proc_pid_clear_refs).
            _CLEAR.write_text("5")
        except OSError:
            self._sampler = _Sampler()

    def read(self) -> int:
        """The peak so far, above what was taken when it was made."""
        if self._device == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated()) - self._before
        peak = self._sampler.peak if self._sampler else _resident("VmHWM")
        return max(0, peak - self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._sampler is not None:
            self._sampler.stop()


class _Sampler:
    """Looks many times a second, where the kernel's mark cannot be set back."""

    def __init__(self) -> None:
        self.peak = _resident("VmRSS")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="peak-memory", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._over.wait(_SAMPLE_EVERY_S):
            self.peak = max(self.peak, _resident("VmRSS"))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _resident(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def device_name(device: str) -> str:
    """What a training ran on, in words."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return "cpu"
