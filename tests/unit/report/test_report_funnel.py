"""The funnel and the rejects of a report are those of the manifests and the table."""

from htcl.report.data import FunnelRow, RejectRow
from htcl.report.funnel import funnel_rows, reject_rows
from htcl.tables import replace_rejects

MANIFESTS = {
    "pairs": {
        "figures": {
            "events": 1000,
            "positive_events": 700,
            "user_days": 40,
            "baskets": 120,
            "pairs_counted": 300,
            "pairs": 90,
            "pairs_by_split": {"train": 60, "test_cold": 20, "test_warm": 10},
            "rejects": {"unknown_track": 5, "bad_ts": 2},
        }
    },
    "catalog": {"figures": {"rows": 53, "tracks": 50, "rejects": {"missing_title": 3}}},
    "shards": {"figures": {"tracks": 48, "shards": 4, "rejects": {"too_short": 2}, "warnings": {"clipped": 4}}},
    "gate_set": {"figures": {"songs": 40}},
}


def test_counts_go_down_from_the_input_to_what_is_judged():
    rows = funnel_rows(MANIFESTS)
    assert [(row.group, row.label, row.count) for row in rows] == [
        ("events", "events in", 1000),
        ("events", "rejected: bad_ts", 2),
        ("events", "rejected: unknown_track", 5),
        ("events", "positive events", 700),
        ("baskets", "baskets", 120),
        ("pairs", "pairs counted", 300),
        ("pairs", "pairs kept", 90),
        ("pairs", "pairs: test_cold", 20),
        ("pairs", "pairs: test_warm", 10),
        ("pairs", "pairs: train", 60),
        ("songs", "catalog rows in", 53),
        ("songs", "rejected: missing_title", 3),
        ("songs", "tracks", 50),
        ("songs", "rejected: too_short", 2),
        ("songs", "warning: clipped", 4),
        ("songs", "in shards", 48),
        ("songs", "in the gate set", 40),
    ]
    assert [row.label for row in rows if row.rejected] == [r.label for r in rows if r.label.startswith("rejected")]
    assert FunnelRow("baskets", "baskets", 120, note="on 40 days of listeners") in rows


def test_rejects_are_counted_by_source_and_reason_with_an_example(tmp_path):
    workspace = str(tmp_path)
    assert reject_rows(workspace) == []
    audio = [{"key": key, "reason": "too_short", "detail": f"{key}.mp3: 1 s"} for key in ("a", "b")]
    replace_rejects(workspace, "audio", [*audio, {"key": None, "reason": "not_audio", "detail": None}])
    replace_rejects(workspace, "catalog", [{"key": "c", "reason": "too_short", "detail": "at c.csv:7"}])
    found = reject_rows(workspace)
    assert [(row.source, row.reason, row.count) for row in found] == [
        ("audio", "not_audio", 1),
        ("audio", "too_short", 2),
        ("catalog", "too_short", 1),
    ]
    assert found[0] == RejectRow("audio", "not_audio", 1, "", "")
    assert (found[1].example_key, found[1].example_detail) in {(r["key"], r["detail"]) for r in audio}


def test_rejects_of_a_new_run_replace_those_of_its_source_only(tmp_path):
    workspace = str(tmp_path)
    replace_rejects(workspace, "audio", [{"key": "a", "reason": "too_short", "detail": ""}])
    replace_rejects(workspace, "catalog", [{"key": "b", "reason": "missing_title", "detail": ""}])
    replace_rejects(workspace, "audio", [])
    assert [row.source for row in reject_rows(workspace)] == ["catalog"]
