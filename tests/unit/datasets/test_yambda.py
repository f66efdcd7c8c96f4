"""Yambda: Parquet with seconds from a hidden start."""

import pyarrow as pa
import pytest

from htcl.datasets import yambda
from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

LISTENS = pa.table(
    {
        "uid": pa.array([100, 100, None, 200], pa.uint32()),
        "timestamp": pa.array([39420, 25_913_600, 5, None], pa.uint32()),
        "item_id": pa.array([8326270, 1441281, 1, 2], pa.uint32()),
        "is_organic": pa.array([0, 1, 1, 1], pa.uint8()),
        "played_ratio_pct": pa.array([95, 7, 50, 50], pa.uint16()),
        "track_length_seconds": pa.array([170, 105, 185, 100], pa.uint32()),
    }
)
LIKES = LISTENS.select(["uid", "timestamp", "item_id", "is_organic"]).slice(0, 1)


@pytest.mark.parametrize(("where", "subset"), [("", None), ("flat/50m/", "50m")])
def test_listens_and_likes(source, prepared, monkeypatch, where, subset):
    monkeypatch.setattr(yambda, "BATCH_ROWS", 3)
    out = prepared("yambda", source({f"{where}listens.parquet": LISTENS, f"{where}likes.parquet": LIKES}), subset)
    assert out.events == [
        ("100", "1441281", "1970-10-27 22:13:20", "listen", pytest.approx(0.07)),
        ("100", "8326270", "1970-01-01 10:57:00", "like"),
        ("100", "8326270", "1970-01-01 10:57:00", "listen", pytest.approx(0.95)),
    ]
    assert [row[1:3] for row in out.rejects] == [
        ("listens.parquet:3", "missing_user_id"),
        ("listens.parquet:4", "bad_ts"),
    ]
    assert not (out.folder / "tracks.parquet").exists() and out.summary.tracks == 0
    assert "min_duration_ratio: 0.5" in (out.folder / "SOURCE.md").read_text()


def test_without_likes(source, prepared):
    assert prepared("yambda", source({"listens.parquet": LISTENS})).summary.missing == (
        "likes.parquet is not there: the log has listens only",
    )


def test_what_cannot_be_read_is_named(source, tmp_path):
    folder = source({"likes.parquet": LIKES})
    with pytest.raises(HTCLError, match=r"listens.parquet is not there; --from has to be a folder of Yambda"):
        prepare("yambda", folder, tmp_path / "out")
    source({"listens.parquet": LISTENS.drop(["played_ratio_pct"])})
    with pytest.raises(HTCLError, match=r"listens.parquet: column 'played_ratio_pct' is missing"):
        prepare("yambda", folder, tmp_path / "out")
    source({"listens.parquet": "version https://git-lfs.github.com/spec/v1\n"})
    with pytest.raises(HTCLError, match=r"listens.parquet cannot be read to its end: .*; download it again"):
        prepare("yambda", folder, tmp_path / "out")
