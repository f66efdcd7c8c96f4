import math
from datetime import UTC, datetime

import pytest

from htcl.evaluation.results import Result
from htcl.report.bridge import Bridge, bridge
from htcl.report.card import CardSection
from htcl.report.data import (
    Curve,
    Figure,
    FunnelRow,
    Headline,
    Hit,
    LineageRow,
    MapPoint,
    QueryResult,
    ResultRow,
)
from htcl.report.data import RejectRow as Reject
from htcl.report.errors import Neighbours, WorstText
from htcl.report.page import ReportData
from htcl.report.quality import QualityRow

WHEN = datetime(2025, 3, 9, 4, 7, tzinfo=UTC)
GENRES = ["ambient", "bossa nova", "drum & bass", "folk", "jazz", "metal", "opera", "techno", "zouk", ""]
SILENCE = "data:audio/wav;base64,UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="


def _headline() -> list[Headline]:
    return [
        Headline("songs embedded", [Figure(18_204)], note="of 18 412 in the catalog"),
        Headline(
            "song to song, cold · ndcg@10",
            [Figure(0.312, "stage 2", 0.30, 0.33), Figure(0.24, "stage 1", 0.22, 0.26)],
        ),
        Headline("gate", [Figure("promoted")], tone="good"),
    ]


def _funnel() -> list[FunnelRow]:
    return [
        FunnelRow("interactions", "events in", 12_345_678),
        FunnelRow("interactions", "unknown track", 321, rejected=True, note="not in the catalog"),
        FunnelRow("songs", "tracks", 18_412),
        FunnelRow("songs", "embedded", 18_204),
    ]


def _results() -> list[ResultRow]:
    return [
        ResultRow("random", "text_to_audio", "cold", "recall_at_10", 0.01, 0.005, 0.015, 900),
        ResultRow("stage_2", "text_to_audio", "cold", "recall_at_10", 0.41, 0.38, 0.44, 900),
        ResultRow("random", "song_to_song", "warm", "ndcg_at_10", math.nan, None, None, 0),
    ]


def _result(system: str, value: float) -> Result:
    return Result(system, "task", "cold", "metric", value, value - 0.02, value + 0.03, 900)


def _bridge() -> Bridge:
    semantic = {"stage1": _result("stage1", 0.31), "stage2": _result("stage2", 0.33)}
    preference = {**{name: _result(name, 0.2) for name in semantic}, "random": _result("random", 0.05)}
    found = bridge(semantic, preference, {"random": "competitor", "stage1": "ours", "stage2": "ours"}, "is", "liked")
    assert found
    return found


def _card() -> CardSection:
    return CardSection(
        runs="3 runs over 3 worlds",
        tables=[ResultRow("MFCC", "Who will like it", "", "cold songs (n = 900)", 0.3, 0.28, 0.32, 0)],
        verdicts=["cold songs: stage2 wins against MFCC", "99 % is kept"],
        bridge=_bridge(),
        deciles=[Curve("cold songs", [1, 2, 3], {"stage2": [0.1, 0.2, math.nan]})],
        changes={"neighbour_overlap": 0.34, "cka": 0.492},
        variants=[("stage2 without text", "by sound alone")],
    )


@pytest.fixture
def full() -> ReportData:
    points = [
        MapPoint(f"t{i}", f"Song {i}", "Ann & Bo", GENRES[i % len(GENRES)], math.cos(i), math.sin(i)) for i in range(40)
    ]
    hits = [
        Hit("t1", "Song 1", "Ann & Bo", "bossa nova", 0.91),
        Hit("t2", "Song 2", "Ann & Bo", "zouk", 0.85),
    ]
    return ReportData(
        name="nightly",
        created=WHEN,
        headline=_headline(),
        funnel=_funnel(),
        rejects=[
            Reject("catalog", "no_title", 2, "t77", "title is null"),
            Reject("audio", "decode_error", 30, "t78", "moov atom not found"),
        ],
        curves=[
            Curve("stage_1", [0, 10, 20], {"total": [3.0, 2.0, math.nan], "audio_text": [1.5, 1.0, 0.5]}),
            Curve("stage_2", [], {}),
        ],
        results=_results(),
        points=points,
        queries=[QueryResult("text", "calm guitar", hits), QueryResult("song", "Song 9", hits[:1], "t9")],
        previews={"t1": SILENCE},
        lineage=[
            LineageRow("pairs", "9f2c1a", 3, WHEN, 3725.0),
            LineageRow("model", "77aa00", 1, WHEN, None),
        ],
        environment={"config": "c0ffee", "torch": "2.13.0"},
        summary="Fine-tuning on 30 days of log",
        searched=20_000,
        songs=1_234_567,
        quality=[QualityRow("events", "play", 4000, 100.0, 90, 110, "M0 50h0L100 20")],
        unusual=["2025-03-08 has 3.1 times the skips of the week before"],
        bridge=_bridge(),
        card=_card(),
        neighbours=[Neighbours("middle", "t9", "Song 9", "Ann & Bo", "zouk", hits, hits[:1], 0.125, frozenset({"t2"}))],
        errors=[WorstText("t3", "Song 3", "calm guitar", 812, 900)],
    )


@pytest.fixture
def empty() -> ReportData:
    return ReportData("nothing", WHEN, [], [], [], [], [], [], [], {}, [], {})
