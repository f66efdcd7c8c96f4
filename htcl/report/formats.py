"""How numbers, names and times are written in the report."""

import math
from datetime import datetime

THIN = "\u202f"  # a narrow space that does not break
NOTHING = "–"


def grouped(value: int | float | str) -> str:
    """A count with thin grouping, a measure with three decimals, a word as it is.

    >>> grouped("promoted")
    'promoted'
    """
    if isinstance(value, str):
        return value
    return measure(value) if isinstance(value, float) else f"{value:,}".replace(",", THIN)


def measure(value: float | None) -> str:
    """A metric or loss: three decimals below 10, fewer above."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.{3 if size < 10 else 1}f}".replace(",", THIN).replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """Both ends, or nothing at all where one is missing."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{measure(low)}–{measure(high)}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("+" if value > 0 else "") + measure(value)


def share(percent: float) -> str:
    """A percentage; almost nothing is not 0, and almost all is not 100."""
    if 0 < percent < 0.1:
        return f"<0.1{THIN}%"
    if 99.9 < percent < 100:
        return f">99.9{THIN}%"
    decimals = 0 if percent in (0, 100) else 1
    return f"{percent:.{decimals}f}{THIN}%"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{grouped(hours)}{THIN}h {minutes_left:02d}{THIN}min"
    return f"{minutes}{THIN}min {rest:02d}{THIN}s" if minutes else f"{rest}{THIN}s"


def moment(when: datetime) -> str:
    """A date and a time to the minute, with the zone where it is known."""
    return f"{when.day} {when:%B %Y, %H:%M %Z}".strip()


def words(name: str) -> str:
    """A column or metric name for readers: `recall_at_10` becomes `recall@10`."""
    return name.replace("_at_", "@").replace("_", " ")
