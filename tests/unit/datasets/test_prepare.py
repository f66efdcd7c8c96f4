"""What all data sets share: names, the target folder, parts of the log, the summary."""

import pyarrow.parquet as pq
import pytest

from htcl.datasets import parquet, tab_log
from htcl.datasets.prepare import describe, prepare
from htcl.datasets.registry import DATASETS, find
from htcl.errors import HTCLError

from .test_lfm_2b import FILES as LFM_2B
from .test_music4all import AUDIO, FILES

EVENTS = "listening-events.tsv.bz2"


def test_every_data_set_says_what_it_is():
    assert list(DATASETS) == [
        "music4all", "music4all-onion", "mtg-jamendo", "fma", "gtzan", "magnatagatune", "lastfm-1k",
        "million-playlist", "lfm-2b", "yambda",
    ]  # fmt: skip
    for name, dataset in DATASETS.items():
        assert find(name) is dataset and dataset.licence and dataset.citation and dataset.homepage and dataset.layout
        assert ("audio" in dataset.brings) == (dataset.audio_root is not None)
        assert ("log" in dataset.brings) == bool(dataset.positive)
        assert dataset.licence_note or "not known" not in dataset.licence


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(HTCLError, match=r"no data set 'Music4All_Onion'; did you mean 'music4all-onion'\?"):
        find("Music4All_Onion")
    with pytest.raises(HTCLError, match=r"no data set 'zzz'; there are music4all, "):
        find("zzz")


def test_a_data_set_without_subsets_has_none(source, tmp_path):
    with pytest.raises(HTCLError, match=r"lfm-2b has no subset '1b'; it has none; leave --subset out"):
        prepare("lfm-2b", source(LFM_2B), tmp_path / "out", "1b")


def test_the_source_has_to_be_a_folder(tmp_path):
    with pytest.raises(HTCLError, match=r"nowhere is no folder; --from names the one that FMA"):
        prepare("fma", tmp_path / "nowhere", tmp_path / "out")


def test_a_target_that_holds_something_is_left_alone(source, tmp_path):
    folder, target = source(LFM_2B), tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(HTCLError, match=r"out holds something already; name another folder with --to, or delete it"):
        prepare("lfm-2b", folder, target)
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
    (target / "mine.txt").unlink()
    assert prepare("lfm-2b", folder, target).events == 2  # an empty folder is taken
    assert sorted(path.name for path in target.iterdir()) == [
        "SOURCE.md",
        "interactions",
        "rejects.parquet",
        "tracks.parquet",
    ]


def test_a_failure_on_the_way_leaves_nothing(source, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(parquet.LogParts, "close", fails)
    with pytest.raises(HTCLError, match=r"No space left on device; make room"):
        prepare("lfm-2b", source(LFM_2B), tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_long_log_becomes_parts_of_several_row_groups(source, prepared, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 100)
    monkeypatch.setattr(parquet, "PART_GROUPS", 2)
    monkeypatch.setattr(tab_log, "BLOCK_BYTES", 2000)
    rows = [f"{n}\t53\t2013-01-27 21:42:{n % 60:02}" for n in range(1000)]
    for broken in (0, 57, 58, 400, 999):
        rows[broken] = "\t".join(["x"] * (broken % 5 + 4))
    log = "\n".join(["user_id\ttrack_id\ttimestamp", *rows])
    out = prepared("lfm-2b", source(LFM_2B | {EVENTS: log}))
    assert sorted(int(event[0]) for event in out.events) == sorted(set(range(1000)) - {0, 57, 58, 400, 999})
    keys = [key for _, key, reason, _ in out.rejects if key.startswith(EVENTS)]
    assert keys == [f"{EVENTS}:{broken + 2}" for broken in (0, 57, 58, 400, 999)]
    parts = sorted((out.folder / "interactions").iterdir())
    assert [path.name for path in parts] == [f"part-{n:05}.parquet" for n in range(len(parts))] and len(parts) > 2
    assert {pq.read_metadata(path).num_row_groups for path in parts[:-1]} == {2}


def test_the_summary_tells_everything(source, prepared):
    out = prepared("music4all", source(FILES | {"id_lang.csv": "id\tlang\n"}, AUDIO))
    text = describe(out.summary)
    assert text.startswith(
        f"Music4All: 13 rows read, 3 tracks, 3 events: {out.folder}\nrejected: malformed_row 3, such"
    )
    for line in (
        "rejected: missing_audio 1, such as 003VDDA7J3Xb2ZFl (003VDDA7J3Xb2ZFl.mp3 is not below ",
        "rejected: bad_ts 1, such as listening_history.csv:4 (no time, or none that can be read)",
        f"configuration: {out.folder / 'htcl.yaml'}",
        "licence: on request, for research, under an agreement with its authors",
        "licence note: the text of Music4All's agreement was not seen",
        "citation: Santana et al.",
    ):
        assert f"\n{line}" in text
    assert all(f"- {line}\n" in (out.folder / "SOURCE.md").read_text() for line in text.splitlines())


def test_the_summary_says_what_a_data_set_never_has(source, prepared):
    text = describe(prepared("lfm-2b", source(LFM_2B)).summary)
    assert "missing: the data set has no audio: whoever has it adds audio_path to tracks.parquet" in text
    assert "untitled: 1 tracks have their id for a title" in text
