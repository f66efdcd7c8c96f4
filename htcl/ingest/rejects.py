"""When too much of an input is refused, the step fails and says why."""

from __future__ import annotations

from collections.abc import Mapping

from htcl.errors import HTCLError


def check_reject_share(counts: Mapping[str, int], total: int, limit: float, origin: str) -> None:
    """Fail above the configured share of rejects.

    Args:
        counts: reason -> rejected rows or files.
        total: all rows or files.
        limit: the share that is accepted.
        origin: config section, named in the error.

    Raises:
        HTCLError: naming the share, the top reasons and the setting.
    """
    rejected = sum(counts.values())
    if total and rejected / total > limit:
        top = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda c: -c[1])[:3])
        raise HTCLError(
            f"{origin}: {rejected} of {total} rejected ({rejected / total:.1%}, accepted are {limit:.1%}): {top}; "
            f"see the rejects table, mend the input, or raise {origin}.max_reject_share"
        )
