"""Why an audio file is refused: a closed list of reasons, and the exception that carries one."""

from enum import StrEnum


class RejectReason(StrEnum):
    """Reasons as they stand in the rejects table. `clipped` only ever appears as a warning."""

    MISSING_FILE = "missing_file"
    UNREADABLE = "unreadable"
    PATH_TRAVERSAL = "path_traversal"
    EMPTY = "empty"
    NOT_AUDIO = "not_audio"
    UNSUPPORTED_FORMAT = "unsupported_format"
    CORRUPT_HEADER = "corrupt_header"
    ABSURD_SAMPLE_RATE = "absurd_sample_rate"
    HUGE_CLAIMED_LENGTH = "huge_claimed_length"
    TRUNCATED = "truncated"
    ZERO_BYTES_IN_MIDDLE = "zero_bytes_in_middle"
    DECODE_ERROR = "decode_error"
    TOO_SHORT = "too_short"
    NAN_WAV = "nan_wav"
    SILENT = "silent"
    CLIPPED = "clipped"
    DECODER_CRASH = "decoder_crash"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"


class AudioRejected(Exception):  # noqa: N818
    """One audio file that cannot be used: `reason` for counting, `detail` with the numbers seen."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
