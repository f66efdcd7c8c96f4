"""Why the ranks ended, from what they and their agents print."""

from __future__ import annotations

import re

from htcl.logs import PASSING, parse_line

ENDS = "ends"
"""Field of the error that ends a rank."""
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*[a-z]\w*(?:: .*)?")
"""The last line of a traceback: `pyarrow.lib.ArrowInvalid: message`, `KeyboardInterrupt`."""


class Cause:
    """Finds out why the ranks ended from their lines; their tracebacks together outgrow a tail of the output."""

    def __init__(self) -> None:
        self._lost = self._sentence = self._exception = self._raised = self._ended = ""
        self._tracebacks, self._passing = 0, False

    @property
    def passing(self) -> bool:
        """Whether another try may end otherwise: nobody said what a person has to mend."""
        return bool(self._lost) or self._passing or not self._sentence

    @property
    def known(self) -> bool:
        """Whether somebody said why."""
        return bool(self._lost or self._sentence or self._exception or self._raised)

    def read(self, line: str) -> None:
        """Take in the next output line of any rank or agent."""
        logged = parse_line(line)
        if logged is None:
            self._read_traceback(line)
        elif ENDS in logged.fields:  # other errors say what a run gets over
            # One rank's error soon becomes a lost connection on the others: the first is the cause.
            if name := logged.fields.get("exception"):
                who = f" (rank {logged.fields['rank']} on host {logged.fields['host']})"
                self._exception = self._exception or f"{name}: {logged.message}".rstrip(": ") + who
            elif not self._sentence:
                self._sentence, self._passing = logged.message, PASSING in logged.fields

    def lost(self, sentence: str) -> None:
        """Take in what the ranks cannot know: a host or a rank that does not answer."""
        self._lost = self._lost or sentence

    def ended(self, host: str, code: int, said: str) -> None:
        """Take in how an agent ended, for want of anything better."""
        self._ended = self._ended or f"its ranks on host {host} ended with exit code {code}: {said}"

    def describe(self, step: str, code: int) -> str:
        """One sentence: what was lost, what an HTCLError said, else the exception or the exit code."""
        if sentence := self._lost or self._sentence:
            return sentence if sentence.startswith(f"{step}: ") else f"{step}: {sentence}"
        reason = self._exception or self._raised or self._ended or "nobody said why"
        return f"{step}: training ended with exit code {code} before the model was published: {reason}"

    def _read_traceback(self, line: str) -> None:
        line = re.sub(r"^\[rank\d+\]: ?", "", line)
        if line.startswith(_TRACEBACK):
            self._tracebacks += 1
        elif self._tracebacks and _RAISED.fullmatch(line.rstrip()):
            self._tracebacks -= 1
            self._raised = line.strip()
