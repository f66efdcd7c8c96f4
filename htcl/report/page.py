"""Everything that a report says, as plain data: the pipeline fills it in, `render` turns it into a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from htcl.report.bridge import Bridge
from htcl.report.card import CardSection
from htcl.report.data import Curve, FunnelRow, Headline, LineageRow, MapPoint, QueryResult, RejectRow, ResultRow
from htcl.report.errors import Neighbours, WorstText
from htcl.report.quality import QualityRow


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    `previews` maps a track_id to a data:audio/... URI. Queries and neighbours are sought among `searched` of `songs`
    songs: a large catalog's report stands on its gate set.
    """

    name: str
    created: datetime
    headline: list[Headline]
    funnel: list[FunnelRow]
    rejects: list[RejectRow]
    curves: list[Curve]
    results: list[ResultRow]
    points: list[MapPoint]
    queries: list[QueryResult]
    previews: dict[str, str]
    lineage: list[LineageRow]
    environment: dict[str, str]
    summary: str = ""
    searched: int = 0
    songs: int = 0
    quality: list[QualityRow] = field(default_factory=list)
    unusual: list[str] = field(default_factory=list)
    bridge: Bridge | None = None
    card: CardSection | None = None
    neighbours: list[Neighbours] = field(default_factory=list)
    errors: list[WorstText] = field(default_factory=list)

    def __post_init__(self) -> None:
        for track_id, uri in self.previews.items():
            if not uri.startswith("data:audio/"):
                raise ValueError(f"preview of {track_id} is not a data:audio/ URI: {uri[:40]}")
