"""The report card as tables: Markdown for a README, and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from htcl.evaluation.bootstrap import Interval
from htcl.evaluation.results import Result
from htcl.report_card.card import HEADLINES, Card, Verdict
from htcl.report_card.variants import STAGE2


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
    return "\n".join([*lines, "", *verdict_lines(card.verdicts), *_kept(card.kept)])


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each headline: stage 2 against the best competitor, and the systems that beat it."""
    lines = []
    for headline in dict.fromkeys(verdict.headline for verdict in verdicts):
        rows = [verdict for verdict in verdicts if verdict.headline == headline]
        best = next((verdict for verdict in rows if verdict.best), None)
        if best is None:
            continue
        word = "wins" if best.difference.low > 0 else "loses" if best.difference.high < 0 else "is level"
        ahead = [verdict.system for verdict in rows if verdict.difference.high < 0]
        beaten = f"; beaten by {', '.join(ahead)}" if ahead else ""
        lines.append(
            f"- {headline}: {STAGE2} {word} against {best.system}, the best competitor "
            f"({signed(best.difference)}, n={best.difference.n:,}){beaten}"
        )
    return lines


def _kept(kept: Interval | None) -> list[str]:
    if kept is None:
        return []
    held = "holds" if kept.high >= 0 else "does not hold"
    return [f"- 99 % of stage 1's text-to-audio recall_at_10 {held}: {STAGE2} - 0.99 x stage1 = {signed(kept)}"]


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _cell(result: Result | None) -> str:
    return "–" if result is None else f"{result.value:.3f} ±{(result.high - result.low) / 2:.3f}"
