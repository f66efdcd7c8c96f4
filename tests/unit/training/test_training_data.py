"""Which songs a step reads: a function of the step, not of ranks or restarts."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from htcl.errors import HTCLError
from htcl.training.data import Samples, Schedule, batches, stage1_samples, stage2_samples


def schedule(n=23, width=1, batch_size=6, epochs=3, rank=0, world_size=1, seed=5):
    songs = np.arange(n * width).reshape(n, width)
    return Schedule(Samples(songs, np.arange(n) // 5), batch_size, epochs, seed, rank, world_size)


def steps(plan, first=0):
    return [(step, rows.tolist()) for step, rows in plan.songs(first)]


def test_an_epoch_has_whole_batches_without_repeats():
    plan = schedule()
    assert (plan.steps_an_epoch, plan.total_steps) == (3, 9)
    found = steps(plan)
    assert [step for step, _ in found] == list(range(9))
    epochs = [[row for _, rows in found[e * 3 : e * 3 + 3] for (row,) in rows] for e in range(3)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_songs_left_over_differ_by_epoch():
    plan = schedule(epochs=12)
    seen = {row for _, rows in steps(plan) for (row,) in rows}
    assert seen == set(range(23))


@pytest.mark.parametrize("first", [1, 3, 4, 8, 9])
def test_a_resumed_run_reads_what_the_first_would_have(first):
    assert steps(schedule(), first) == steps(schedule())[first:]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_another_number_of_ranks_reads_the_same_batches(world_size):
    parts = [steps(schedule(rank=rank, world_size=world_size), first=2) for rank in range(world_size)]
    joined = [(rows[0][0], [row for _, part in rows for row in part]) for rows in zip(*parts, strict=True)]
    assert joined == steps(schedule(), first=2)


def test_fewer_songs_than_a_batch_make_no_step():
    plan = schedule(n=5)
    assert plan.total_steps == 0 and steps(plan) == []


def test_stage_1_reads_training_songs_only(world):
    samples = stage1_samples(world.index)
    assert samples.songs.shape == (12, 1) and 12 not in samples.songs and 13 not in samples.songs
    shards = np.asarray(world.index["shard"])[samples.songs[:, 0]]
    assert len(set(zip(shards, samples.blocks.tolist(), strict=True))) == len(set(shards)) > 2


def write_pairs(folder, rows):
    (folder / "pairs").mkdir()
    names = ("anchor_id", "positive_id", "source", "split")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    pq.write_table(table, folder / "pairs" / "part-0.parquet")
    return folder


def test_stage_2_reads_each_training_pair_with_audio_once(world, tmp_path):
    folder = write_pairs(
        tmp_path,
        [
            ("c", "a", "copreference", "train"),
            ("a", "c", "copreference", "train"),
            ("a", "c", "triggered", "train"),
            ("a", "no audio", "copreference", "train"),
            ("a", "b", "copreference", "test_warm"),
            ("a", "m", "copreference", "test_cold"),
        ],
    )
    samples = stage2_samples(world.index, folder)
    assert samples.songs.tolist() == [[0, 2], [2, 0]]
    assert samples.blocks.tolist() == [stage1_samples(world.index).blocks[row] for row in (0, 2)]


@pytest.mark.parametrize("held_out", ["m", "n"])
def test_a_training_pair_with_a_held_out_song_is_an_error(world, tmp_path, held_out):
    folder = write_pairs(tmp_path, [("a", "b", "copreference", "train"), ("a", held_out, "triggered", "train")])
    with pytest.raises(HTCLError, match="disagree about the split"):
        stage2_samples(world.index, folder)


def test_texts_and_log_mels_belong_to_the_same_song(world, songs, processor):
    rows = np.array([5, 0, 11])
    assert songs.texts(rows) == ["song f, slow", "song a, slow", "song l, slow"]
    inputs = songs.inputs(rows)
    assert inputs["attention_mask"].sum(1).tolist() == [25, 20, 31]
    expected = processor.from_mels([world.mels[row] for row in rows])
    torch.testing.assert_close(inputs["input_features"], expected["input_features"])
    assert inputs["text_attention_mask"].shape == inputs["input_ids"].shape


def test_batches_come_in_order_with_anchors_before_positives(songs, monkeypatch):
    plan = Schedule(Samples(np.arange(12).reshape(6, 2), np.zeros(6, np.int64)), 2, 2, 0, 0, 1)
    delays = iter([0.05, 0, 0.03, 0, 0, 0])

    def inputs(rows):
        time.sleep(next(delays))
        return {"rows": torch.from_numpy(rows)}

    monkeypatch.setattr(songs, "inputs", inputs)
    found = list(batches(plan, songs, first_step=1))
    assert [(step, rows.tolist()) for step, rows, _ in found] == steps(plan, 1)
    for _, rows, loaded in found:
        assert loaded["rows"].tolist() == [*rows[:, 0], *rows[:, 1]]


def test_an_error_in_reading_reaches_the_training_loop(songs, monkeypatch):
    plan = schedule(n=4, batch_size=2, epochs=1)

    def inputs(rows):
        if 0 in rows:
            raise HTCLError("shard htcl-1.tar: damaged")
        return {}

    monkeypatch.setattr(songs, "inputs", inputs)
    with pytest.raises(HTCLError, match=r"htcl-1\.tar"):
        list(batches(plan, songs))
