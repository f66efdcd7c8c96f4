"""Decoding in a child process, which is killed and replaced when a file crashes it, hangs, or asks for too much memory.

While the child decodes a file, the caller is free to work on the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from htcl.audio.child import LENGTH
from htcl.audio.decode import AudioRejected, DecodedAudio, RejectReason
from htcl.errors import HTCLError
from htcl.processes import end_with_parent

DECODE = "htcl.audio.decode:decode_audio"
_START_SECONDS = 120.0
_TRANSPORT_SECONDS = 60.0
_OWN_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""Threads that nobody uses would take address space, which is what the memory limit counts."""
_OF_THE_PROCESS = {RejectReason.DECODER_CRASH, RejectReason.MEMORY_LIMIT}


@dataclass(frozen=True)
class Limits:
    """What decoding one file may take: seconds, and MB of address space (a child takes about 200 of them itself)."""

    seconds: float
    memory_mb: int

    def __str__(self) -> str:
        return f"{self.seconds:g} s, {self.memory_mb} MB"


class IsolatedDecoder:
    """One child process that decodes one file after the other."""

    def __init__(self, limits: Limits, target: str = DECODE) -> None:
        """Nothing is started before the first file.

        Args:
            limits: of each file.
            target: the function that decodes, as MODULE:NAME.
        """
        self._limits, self._target = limits, target
        self._process: subprocess.Popen[bytes] | None = None
        self._request: dict[str, Any] | None = None
        self._served, self._deadline = 0, 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the child; None where there is none."""
        return self._process.pid if self._process else None

    def submit(self, path: str, **options: Any) -> None:
        """Begin to decode a file; a file whose `result` nobody took is given up.

        Args:
            path: local.
            options: of `htcl.audio.decode.decode_audio`.

        Raises:
            HTCLError: when no child can be started.
        """
        if self._request is not None or (self._process and self._process.poll() is not None):
            self.close()
        process = self._process or self._start()
        self._request = {"path": path, **options}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `result` finds out why
            process.stdin.write(json.dumps(self._request).encode() + b"\n")
        self._deadline = time.monotonic() + self._limits.seconds

    def result(self) -> DecodedAudio:
        """Wait for what was submitted.

        Raises:
            AudioRejected: as `decode_audio`, and `decoder_crash`, `time_limit`, `memory_limit`.
            OSError: the storage failed; says nothing about the file.
        """
        request, used = self._request, self._served > 0
        assert request is not None
        try:
            return self._take()
        except AudioRejected as rejected:
            if not used or rejected.reason not in _OF_THE_PROCESS:
                raise
        # The files before it may have left the child in a bad state: only a fresh one condemns.
        self.close()
        self.submit(**request)
        return self._take()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._request, process, self._process = None, self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "htcl.audio.child", self._target, str(self._limits.memory_mb)]
        process = self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **_OWN_THREADS},
            preexec_fn=end_with_parent(os.getpid(), signal.SIGKILL),  # noqa: PLW1509  (it makes two system calls)
        )
        self._served = 0
        try:
            self._read_told(time.monotonic() + _START_SECONDS)
        except (EOFError, TimeoutError):
            self.close()
            raise HTCLError(
                f"the decoder ({' '.join(command)}) does not start; raise audio.decode_memory_mb, "
                "or see what it printed"
            ) from None
        return process

    def _take(self) -> DecodedAudio:
        try:
            told = self._read_told(self._deadline)
            samples = self._read(told.get("samples", 0), time.monotonic() + _TRANSPORT_SECONDS)
        except TimeoutError:
            self.close()
            limit = f"audio.decode_seconds = {self._limits.seconds:g}"
            raise AudioRejected(RejectReason.TIME_LIMIT, f"not decoded within {limit}") from None
        except EOFError:
            raise AudioRejected(RejectReason.DECODER_CRASH, f"the decoder {self._ended()}") from None
        self._request, self._served = None, self._served + 1
        if "os_error" in told:
            raise OSError(told["os_error"])
        if "reason" in told:
            raise AudioRejected(RejectReason(told["reason"]), self._with_limit(told))
        values = np.frombuffer(samples, np.float32)
        rate = int(told["sample_rate"])
        return DecodedAudio(values, rate, len(values) / rate, tuple(told["warnings"]))

    def _with_limit(self, told: dict[str, Any]) -> str:
        of_memory = told["reason"] == RejectReason.MEMORY_LIMIT
        return f"{told['detail']} (audio.decode_memory_mb = {self._limits.memory_mb})" if of_memory else told["detail"]

    def _ended(self) -> str:
        """How the child that closed its pipe came to its end."""
        process = self._process
        assert process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        code = process.returncode
        self.close()
        if code is None:
            return "closed its output"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _read_told(self, deadline: float) -> dict[str, Any]:
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        return dict(json.loads(self._read(length, deadline)))

    def _read(self, size: int, deadline: float) -> bytearray:
        """Exactly `size` bytes of a reply; what is there already is read after the deadline, too."""
        assert self._process is not None and self._process.stdout is not None
        handle, data, done = self._process.stdout.fileno(), bytearray(size), 0
        view, poll = memoryview(data), select.poll()
        poll.register(handle, select.POLLIN)
        while done < size:
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            count = os.readv(handle, [view[done:]])
            if not count:
                raise EOFError
            done += count
        return data
