"""Structured logs: one logfmt line an event, and progress with rate and time left."""

from __future__ import annotations

import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

from htcl.errors import HTCLError, PassingError

PASSING = "passing"
"""Field of an error that may be gone at another try, for who reads the lines of a process."""
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
"""In a URL, which errors of libraries quote whole."""
_PAIR = re.compile(r'(\w+)=("[^"]*"|\S*)')


class LogfmtFormatter(logging.Formatter):
    """`ts=… level=info step=shards msg="…" key=value`; event and fields come from `log`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line."""
        head = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "step": record.name.removeprefix("htcl."),
            "msg": getattr(record, "event", record.getMessage()),
        }
        line = _logfmt({**head, **getattr(record, "fields", {})})
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _logfmt(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={_quote(value)}" for key, value in fields.items())


def _quote(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    plain = text and not any(letter.isspace() or letter in '"=' for letter in text)
    return text if plain else '"' + " ".join(text.replace('"', "'").splitlines()) + '"'


@dataclass(frozen=True)
class LogLine:
    """One log line of htcl, as another process reads it.

    Attributes:
        level: info, error, …
        step: what logged it.
        message: the event.
        fields: its figures, as text.
    """

    level: str
    step: str
    message: str
    fields: dict[str, str]

    @property
    def text(self) -> str:
        """Event and figures, as `log` hands them to other handlers."""
        return f"{self.message} {_logfmt(self.fields)}".strip()


def parse_line(line: str) -> LogLine | None:
    """Read a line that `LogfmtFormatter` wrote; None for any other."""
    if not line.startswith("ts="):
        return None
    pairs = {key: value.strip('"') for key, value in _PAIR.findall(line)}
    if not {"level", "step", "msg"} <= pairs.keys():
        return None
    fields = {key: value for key, value in pairs.items() if key not in ("ts", "level", "step", "msg")}
    return LogLine(pairs["level"], pairs["step"], pairs["msg"], fields)


def setup_logging(level: int = logging.INFO) -> None:
    """Send the log lines of htcl to standard error; called once by every entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogfmtFormatter())
    logger = logging.getLogger("htcl")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def quiet_libraries() -> None:
    """No progress bars and notices of transformers between our lines; call it before a model is loaded."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def get_logger(step: str) -> logging.Logger:
    """The logger of a step."""
    return logging.getLogger(f"htcl.{step}")


def log(logger: logging.Logger, message: str, **fields: Any) -> None:
    """Log one event at level info with its figures as fields; other handlers see them in the message."""
    _log(logger, logging.INFO, message, fields)


def log_warning(logger: logging.Logger, message: str, **fields: Any) -> None:
    """Log one event at level warning, as `log` does at level info."""
    _log(logger, logging.WARNING, message, fields)


def log_error(logger: logging.Logger, message: str, **fields: Any) -> None:
    """Log one event at level error, as `log` does at level info."""
    _log(logger, logging.ERROR, message, fields)


def log_sentence(logger: logging.Logger, error: HTCLError, **fields: Any) -> None:
    """Log the sentence that a process ends with, and whether another try is worth it."""
    log_error(logger, str(error), **fields, **({PASSING: True} if isinstance(error, PassingError) else {}))


def _log(logger: logging.Logger, level: int, message: str, fields: dict[str, Any]) -> None:
    message = without_passwords(message)
    logger.log(level, f"{message} {_logfmt(fields)}".strip(), extra={"event": message, "fields": fields})


def without_passwords(text: str) -> str:
    """Text whose URLs name no password."""
    return _PASSWORD.sub(r"\1:***@", text)


class Progress:
    """Logs how far a long step is, at most every `every` seconds: done, total, rate, time left."""

    def __init__(self, logger: logging.Logger, what: str, total: int, every: float = 5.0) -> None:
        self._logger, self._what, self._total, self._every = logger, what, total, every
        self._start = self._last = time.monotonic()

    def update(self, done: int, **fields: Any) -> None:
        """Report that `done` of `total` are finished."""
        now = time.monotonic()
        if now - self._last < self._every and done < self._total:
            return
        self._last = now
        rate = done / max(now - self._start, 1e-9)
        # Before the first is finished there is no rate.
        pace = {"per_second": round(rate, 2), "eta_seconds": round((self._total - done) / rate, 1)} if done else {}
        log(self._logger, "progress", what=self._what, done=done, total=self._total, **pace, **fields)
