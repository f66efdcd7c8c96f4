"""What of the log has to be counted: the log and today's settings held against the counts that are there."""

from __future__ import annotations

from dataclasses import dataclass

from counting import days_to_forget, look_at_days
from pyspark.sql import SparkSession

from htcl.errors import HTCLError
from htcl.pairs.log_index import (
    FORGOTTEN,
    SETTINGS,
    USER_KEY,
    LogFile,
    counted_files,
    counting_settings,
    forgotten_fingerprint,
    new_files,
    stale_days,
)
from htcl.pairs.store import pair_table
from htcl.pairs.tasks import Job
from htcl.tables import Properties
from htcl.users import KEY_FILE_VARIABLE, KEY_VARIABLE, key_check

Days = frozenset[int]


@dataclass(frozen=True)
class Todo:
    """What is to be counted.

    Attributes:
        files: of the log, by path; with their days unless all is counted.
        index: the files as they were counted, those that are gone too.
        new: paths of files that are not as they were counted.
        days: None for all.
        dateless: paths of new files that have no row with a day.
        asked: whether somebody asked for it, or it is done because of what the log is now.
        said: what the commit says of itself, beside its files.
        base: version of the counts.
    """

    files: dict[str, LogFile]
    index: dict[str, LogFile]
    new: frozenset[str]
    days: Days | None
    dateless: frozenset[str]
    asked: bool
    said: Properties
    base: int

    @property
    def nothing(self) -> bool:
        """Whether the counts are up to date."""
        return self.days is not None and not (self.days or self.dateless or self.asked)


def find_todo(spark: SparkSession, job: Job, files: dict[str, LogFile], days: Days | None, exact: bool = False) -> Todo:
    """Hold the log against what was counted.

    Args:
        spark: the session, which looks into files that nobody has looked into yet.
        job: for all days.
        files: of the log, by path.
        days: that are asked for; None: what is new or changed.
        exact: count the days that are asked for and no more: those that look back to them are somebody else's.

    Raises:
        HTCLError: when the counts are of another user key, or days are asked for whose counts are of other settings.
    """
    table, asked = pair_table(job.config.workspace), days is not None
    base = table.version()
    known, said = table.properties() if base >= 0 else {}, _settings(job)
    _check_settings(known, said, asked)
    index = counted_files(known, job.config.workspace)
    if not asked and (not index or known.get(SETTINGS) != said[SETTINGS]):
        return Todo(files, index, frozenset(files), None, frozenset(), False, said, base)
    files = {path: _known(file, index) for path, file in files.items()}
    unknown = [file for file in files.values() if file.days is None]
    files |= {file.path: file for file in look_at_days(spark, job, unknown)} if unknown else {}
    new = frozenset(file.path for file in new_files(index, files.values()))
    dateless = frozenset() if asked else frozenset(path for path in new if not files[path].days)
    if days is not None:
        # Users who are on other days too are still to be found.
        said[FORGOTTEN] = known.get(FORGOTTEN, said[FORGOTTEN])
    else:
        days = stale_days(index, files.values())
        if asked := said[FORGOTTEN] != known.get(FORGOTTEN):
            gone = [index.pop(path) for path in index.keys() - files.keys()]
            days = days.union(days_to_forget(spark, job, list(files.values())), *(file.days or () for file in gone))
    # What looks back to a changed day changes with it.
    ahead = 0 if exact else job.pairs.lookback_days
    days = frozenset(day + n for day in days for n in range(ahead + 1))
    return Todo(files, index, new, days, dateless, asked, said, base)


def _settings(job: Job) -> Properties:
    """What a commit says of how it was counted."""
    config = job.config
    forgotten = forgotten_fingerprint(config.workspace)
    return {SETTINGS: counting_settings(config), FORGOTTEN: forgotten, USER_KEY: key_check(job.rules.key)}


def _check_settings(known: Properties, now: Properties, asked: bool) -> None:
    if known.get(USER_KEY, now[USER_KEY]) != now[USER_KEY]:
        raise HTCLError(
            "the counts were made with another user key, and by two keys the same listener counts as two; give the "
            f"first one in {KEY_VARIABLE} or {KEY_FILE_VARIABLE}, or start a new workspace"
        )
    if asked and known.get(SETTINGS, now[SETTINGS]) != now[SETTINGS]:
        raise HTCLError(
            "the settings that counts hang on have changed since they were made; "
            "run the pairs step without --start and --end to count the whole log"
        )


def _known(file: LogFile, counted: dict[str, LogFile]) -> LogFile:
    """A file with its days, where it is as it was when it was counted."""
    before = counted.get(file.path)
    return before if before is not None and before.tag == file.tag else file
