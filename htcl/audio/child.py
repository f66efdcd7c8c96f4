"""The process that decodes, started by `htcl.audio.isolated`: a file that crashes or hangs ends it, not the task.

It reads requests from standard input and answers on standard output. Imports numpy and PyAV only, so that a new one
is there in a quarter of a second.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO

from htcl.audio.decode import AudioRejected, DecodedAudio, RejectReason

LENGTH = struct.Struct("<I")
"""In front of a reply: bytes of its JSON part. The samples follow that."""

Decode = Callable[..., DecodedAudio]


def main(target: str, memory_mb: int) -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    module, _, name = target.partition(":")
    decode: Decode = getattr(import_module(module), name)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _reply(replies, {}, b"")
    for line in sys.stdin.buffer:
        _reply(replies, *_answer(decode, json.loads(line)))


def _answer(decode: Decode, request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    try:
        decoded = decode(request.pop("path"), **request)
    except AudioRejected as rejected:
        return {"reason": rejected.reason, "detail": rejected.detail}, b""
    except MemoryError as error:
        return {"reason": RejectReason.MEMORY_LIMIT, "detail": f"asks for more memory than there is: {error}"}, b""
    except OSError as error:
        return {"os_error": str(error)}, b""
    except Exception as error:  # whatever a decoder raises, it costs this file only
        return {"reason": RejectReason.DECODER_CRASH, "detail": f"{type(error).__name__}: {error}"}, b""
    told = {"samples": decoded.samples.nbytes, "sample_rate": decoded.sample_rate, "warnings": decoded.warnings}
    return told, decoded.samples.data.cast("B")


def _reply(replies: BinaryIO, told: dict[str, Any], samples: Any) -> None:
    text = json.dumps(told).encode()
    replies.write(LENGTH.pack(len(text)) + text)
    replies.flush()
    replies.write(samples)
    replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
