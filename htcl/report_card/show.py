"""The report card as tables: Markdown for a README, and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from htcl.evaluation.bootstrap import Interval
from htcl.evaluation.results import Result
from htcl.report_card.card import HEADLINES, KEPT_SHARE, Card, Verdict
from htcl.report_card.variants import STAGE1, STAGE2

FEWEST = 10
"""Queries: a bootstrap over fewer is narrower than the truth, so nothing is called a win or a loss."""


def card_markdown(card: Card) -> str:
    """The headlines of every system, and what stage 2 wins and loses."""
    found: dict[tuple[str, ...], Result] = {(r.system, r.task, r.split, r.metric): r for r in card.results}
    counts = {
        figure: next((r.n for r in card.results if (r.task, r.split, r.metric) == figure), 0) for _, figure in HEADLINES
    }
    shown = [(name, figure) for name, figure in HEADLINES if counts[figure]]
    head = " | ".join(f"{name}: {figure[2]} (n={counts[figure]:,})" for name, figure in shown)
    lines = [f"| system | {head} |", f"|---|{'---:|' * len(shown)}"]
    for system in card.systems:
        cells = " | ".join(_cell(found.get((system, *figure))) for _, figure in shown)
        lines.append(f"| {system} | {cells} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in verdict_lines(card))])


def verdict_lines(card: Card) -> list[str]:
    """Where stage 2 wins and loses, a line for each headline, and whether it keeps stage 1's retrieval."""
    return [*_verdicts(card.verdicts), *([_kept(card.kept)] if card.kept else [])]


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for headline in dict.fromkeys(verdict.headline for verdict in verdicts):
        rows = [verdict for verdict in verdicts if verdict.headline == headline]
        best = next((verdict for verdict in rows if verdict.best), None)
        if best is not None:
            outcome = _too_few(best) if best.difference.n < FEWEST else _outcome(best) + _beaten(rows)
            lines.append(f"{headline}: {STAGE2} {outcome}")
    return lines


def _beaten(rows: Sequence[Verdict]) -> str:
    ahead = [verdict.system for verdict in rows if verdict.difference.high < 0]
    return f"; beaten by {', '.join(ahead)}" if ahead else ""


def _outcome(verdict: Verdict) -> str:
    difference, runs = verdict.difference, verdict.runs
    word = "beats" if difference.low > 0 else "loses to" if difference.high < 0 else "cannot be told from"
    over = f", ahead in {sum(each > 0 for each in runs)} of {len(runs)} runs" if len(runs) > 1 else ""
    return f"{word} {verdict.system}, the best competitor ({signed(difference)}, n={difference.n:,}{over})"


def _too_few(verdict: Verdict) -> str:
    difference = verdict.difference
    queries = "query is" if difference.n == 1 else "queries are"
    return (
        f"{difference.value:+.3f} against {verdict.system}, the best competitor; "
        f"{difference.n} {queries} too few to tell"
    )


def _kept(kept: Interval) -> str:
    word = "is kept" if kept.low >= 0 else "is kept within the interval" if kept.high >= 0 else "is not kept"
    return (
        f"{100 * KEPT_SHARE:.0f} % of {STAGE1}'s text-to-audio recall_at_10 {word}: "
        f"{STAGE2} - {KEPT_SHARE} x {STAGE1} = {signed(kept)}"
    )


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _cell(result: Result | None) -> str:
    return "–" if result is None else f"{result.value:.3f} ±{(result.high - result.low) / 2:.3f}"
