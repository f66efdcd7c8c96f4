"""A rank's batches: which songs it encodes, what they look like, and which of them are no negatives."""

import queue
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.config import Stage2Config, StageConfig
from htcl.errors import HTCLError
from htcl.training import batches
from htcl.training.batches import ENOUGH_FRAMES, LEAST_BUCKET, PADDING_SHARE, READ_AHEAD, Batch, Loader, micro_batches
from htcl.training.samples import KnownPairs, Samples, stage1_samples
from htcl.training.schedule import Schedule

AUGMENTED = StageConfig(text_field_dropout=0.5, crop_seconds=2.0, time_mask_ratio=0.5, frequency_mask_ratio=0.5)
FRAMES = (
    st.integers(1, 60)
    .flatmap(lambda songs: st.lists(st.integers(17, 1251), min_size=songs, max_size=songs))
    .map(lambda frames: np.array(sorted(frames)[::-1]))
)
BATCH, SONGS, GROUPS = 6, 10, 5
"""Sizes of the drawn batches; every rank of 1, 2 and 3 has as many of their samples."""
GROUP = st.integers(0, GROUPS - 1)


def numbers_only():
    """Songs that are read and encoded at no cost: their inputs are their rows."""
    inputs = {"inputs": lambda rows, *_: {"songs": torch.from_numpy(rows)}}
    return SimpleNamespace(mels=list, crop_frames=lambda stage: None, **inputs)


def loader(songs, samples, stage=None, rank=0, world_size=1, batch_size=BATCH, epochs=1, **more):
    plan = Schedule(samples, batch_size, epochs, seed=3)
    return Loader(plan, songs, stage or StageConfig(), rank, world_size, **more)


def drawn_samples(width):
    """Samples of one batch, their songs in few groups, some pairs of groups known."""
    songs = st.lists(
        st.lists(st.integers(0, SONGS - 1), min_size=width, max_size=width), min_size=BATCH, max_size=BATCH
    )
    known = st.lists(st.tuples(GROUP, GROUP), max_size=6).map(lambda pairs: np.array(pairs, np.int64).reshape(-1, 2))
    return st.builds(
        lambda songs, groups, pairs: Samples(
            np.array(songs),
            np.zeros(BATCH, np.int64),
            np.arange(20, 20 + SONGS, dtype=np.int32),
            np.array(groups, np.int32),
            KnownPairs.of(pairs, GROUPS) if width == 2 else None,
        ),
        songs,
        st.lists(GROUP, min_size=SONGS, max_size=SONGS),
        known,
    )


def of_all_ranks(samples, stage, world_size):
    """The one batch of the samples, as each rank has it, and its index rows."""
    ranks = [loader(numbers_only(), samples, stage, rank, world_size) for rank in range(world_size)]
    ((_, rows),) = ranks[0].schedule.steps()
    return [batch for rank in ranks for batch in rank.batches()], rows


def off_diagonal(mask):
    return mask.masked_fill(torch.eye(len(mask), dtype=torch.bool), False).tolist()


def stacked(batches, corrections):
    """Masks of all ranks' own samples, one row for each sample, its own column left out."""
    return off_diagonal(torch.cat([corrections(batch).false_negatives for batch in batches]))


@settings(max_examples=50)
@given(FRAMES)
def test_songs_are_cut_where_lengths_differ_or_a_part_is_large_and_nowhere_else(frames):
    parts = micro_batches(frames, None)
    assert [place for part in parts for place in range(len(frames))[part]] == list(range(len(frames)))
    for part in parts:
        inside = frames[part]
        assert len(inside) >= min(LEAST_BUCKET, len(frames))
        padding = 1 - inside / inside[0]
        size = np.arange(1, len(inside) + 1) * inside[0]
        # Too few songs before or behind a place forbid to cut there.
        places = np.arange(part.start, part.stop)
        free = (places - part.start >= LEAST_BUCKET) & (len(frames) - places >= LEAST_BUCKET)
        assert (padding[free] <= PADDING_SHARE).all() and (size[free] <= ENOUGH_FRAMES).all()
        if part.stop < len(frames):
            padded = 1 - frames[part.stop] / inside[0] > PADDING_SHARE
            assert padded or (len(inside) + 1) * inside[0] > ENOUGH_FRAMES


@settings(max_examples=50)
@given(FRAMES, st.integers(1, 70))
def test_a_size_cuts_into_parts_of_that_size(frames, size):
    parts = [frames[part].tolist() for part in micro_batches(frames, size)]
    assert [length for part in parts for length in part] == frames.tolist()
    assert all(len(part) == size for part in parts[:-1]) and 0 < len(parts[-1]) <= size


def test_texts_and_log_mels_belong_to_the_same_song(world, songs, processor):
    rows = np.array([5, 0, 11])
    assert songs.texts(rows) == ["song f, slow", "song a, slow", "song l, slow"]
    mels = songs.mels(rows)
    inputs = songs.inputs(rows, mels)
    assert inputs["songs"].tolist() == [5, 0, 11]
    assert inputs["attention_mask"].sum(1).tolist() == [25, 20, 31]
    expected = processor.from_mels([world.mels[row] for row in rows])
    torch.testing.assert_close(inputs["input_features"], expected["input_features"])
    tokens = processor(text=songs.texts(rows))
    assert torch.equal(inputs["input_ids"], tokens["input_ids"])
    assert torch.equal(inputs["text_attention_mask"], tokens["attention_mask"])


def test_songs_of_one_length_need_no_audio_mask(songs):
    rows = np.array([5, 0, 11])
    mels = songs.mels(rows)
    inputs = songs.inputs(rows, [mel[:20] for mel in mels])
    assert "attention_mask" not in inputs and inputs["input_features"].shape[:2] == (3, 20)
    assert "text_attention_mask" in inputs
    assert "attention_mask" in songs.inputs(rows, [mels[0][:21], mels[1], mels[2][:20]])


def features_and_text(inputs):
    """Features without padding, and the tokens without theirs, of each song."""
    frames = inputs.get("attention_mask", torch.ones(inputs["input_features"].shape[:2])).sum(1).int().tolist()
    tokens = inputs["text_attention_mask"].sum(1).tolist()
    return {
        row: (features[:length].tolist(), ids[:count].tolist())
        for row, features, length, ids, count in zip(
            inputs["songs"].tolist(), inputs["input_features"], frames, inputs["input_ids"], tokens, strict=True
        )
    }


def augmented(songs, rows, stage=AUGMENTED, seed=0, step=0):
    rows = np.array(rows)
    return features_and_text(songs.inputs(rows, songs.mels(rows), stage, seed, step))


def test_augmentation_of_a_song_does_not_depend_on_the_others(songs):
    together = augmented(songs, [11, 7, 3, 0])
    for rows in ([7], [0, 11], [3, 2, 1, 0]):
        for row, found in augmented(songs, rows).items():
            assert row not in together or found == together[row]


def test_augmentation_differs_by_step_and_seed(songs):
    found = [augmented(songs, range(12), seed=seed, step=step) for seed, step in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert sum(found[one][row][0] != found[other][row][0] for row in range(12)) > 6
        assert any(found[one][row][1] != found[other][row][1] for row in range(12))


@pytest.mark.parametrize(
    ("changes", "features_change", "texts_change"),
    [
        ({}, False, False),
        ({"text_field_dropout": 0.5}, False, True),
        ({"crop_seconds": 2.0}, True, False),
        ({"time_mask_ratio": 0.5}, True, False),
        ({"frequency_mask_ratio": 0.5}, True, False),
    ],
)
def test_only_what_is_switched_on_is_augmented(songs, changes, features_change, texts_change):
    plain, found = augmented(songs, range(12), None), augmented(songs, range(12), StageConfig(**changes))
    assert any(found[row][0] != plain[row][0] for row in plain) == features_change
    assert any(found[row][1] != plain[row][1] for row in plain) == texts_change


def test_augmentation_leaves_what_is_remembered_whole(world, songs):
    rows = np.arange(12)
    for step in range(3):
        songs.inputs(rows, songs.mels(rows), AUGMENTED, 0, step)
    for row, mel in zip(rows, songs.mels(rows), strict=True):
        np.testing.assert_array_equal(mel, world.mels[row])


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_the_songs_of_a_batch_are_those_of_the_shards(world, songs, processor, micro_batch_size):
    (batch, _) = loader(songs, stage1_samples(world.index), micro_batch_size=micro_batch_size).batches()
    assert [len(part["songs"]) for part in batch.micro_batches] == ([6] if micro_batch_size is None else [2, 2, 2])
    for part in batch.micro_batches:
        rows = part["songs"].numpy()
        expected = processor.from_mels([world.mels[row] for row in rows])
        assert torch.equal(part["input_features"], expected["input_features"])
        assert torch.equal(part["input_ids"], processor(text=songs.texts(rows))["input_ids"])


@pytest.mark.parametrize("micro_batch_size", [None, 1, 2])
def test_ranks_of_any_number_encode_the_same_songs_alike(world, songs, micro_batch_size):
    def encoded(world_size):
        found = {}
        for rank in range(world_size):
            ranks = loader(songs, samples, AUGMENTED, rank, world_size, micro_batch_size=micro_batch_size)
            for batch in ranks.batches():
                for part in batch.micro_batches:
                    assert micro_batch_size is None or len(part["songs"]) <= micro_batch_size
                    found |= {(batch.step, row): song for row, song in features_and_text(part).items()}
        return found

    samples = stage1_samples(world.index)
    assert len(encoded(1)) == 12
    assert encoded(1) == encoded(2) == encoded(3)


def test_batches_come_in_order_from_any_step_on(world):
    numbered = loader(numbers_only(), stage1_samples(world.index), batch_size=4, epochs=3)
    expected = [(step, sorted(rows[:, 0].tolist())) for step, rows in numbered.schedule.steps()]
    for first in (0, 1, 5, 9):
        found = [(batch.step, sorted(batch.micro_batches[0]["songs"].tolist())) for batch in numbered.batches(first)]
        assert found == expected[first:]


@pytest.mark.parametrize(("room", "ahead"), [(1 << 20, READ_AHEAD), (40, 2), (1, 1)])
def test_the_next_batches_are_read_while_one_is_trained_on_as_far_as_there_is_room(world, monkeypatch, room, ahead):
    read = queue.Queue()
    songs = numbers_only()
    songs.inputs = lambda rows, mels, stage, seed, step: read.put(step) or {"songs": torch.from_numpy(rows)}
    monkeypatch.setattr(batches, "READ_AHEAD_BYTES", room)
    stream = loader(songs, stage1_samples(world.index), batch_size=2, epochs=2).batches()
    assert [next(stream).step, next(stream).step] == [0, 1]
    assert [read.get(timeout=60) for _ in range(2 + ahead)] == list(range(2 + ahead))
    stream.close()
    assert read.empty()


def test_an_error_in_reading_reaches_the_training_loop_at_its_step(world):
    def inputs(rows, mels, stage, seed, step):
        if step == 2:
            raise HTCLError("shard htcl-1.tar: damaged")
        return {"songs": torch.from_numpy(rows)}

    songs = numbers_only()
    songs.inputs = inputs
    stream = loader(songs, stage1_samples(world.index), batch_size=2).batches()
    assert [next(stream).step, next(stream).step] == [0, 1]
    with pytest.raises(HTCLError, match=r"htcl-1\.tar"):
        next(stream)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 2])
@settings(max_examples=20)
@given(data=st.data())
def test_each_sample_finds_its_songs_among_the_encoded_ones(width, world_size, data):
    samples = data.draw(drawn_samples(width))
    batches, rows = of_all_ranks(samples, StageConfig(), world_size)
    table = torch.cat([part["songs"] for batch in batches for part in batch.micro_batches])
    assert torch.cat([batch.own for batch in batches]).tolist() == list(range(BATCH))
    for batch in batches:
        assert table[batch.places].tolist() == rows.tolist()
        assert batch.groups.tolist() == samples.groups[rows].tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 2])
@settings(max_examples=20)
@given(data=st.data())
def test_versions_of_one_work_are_no_negatives_of_audio_and_text(width, world_size, data):
    samples = data.draw(drawn_samples(width))
    batches, rows = of_all_ranks(samples, StageConfig(), world_size)
    songs = [row for side in rows.T.tolist() for row in side]
    full = torch.zeros(width * BATCH, width * BATCH, dtype=torch.bool)
    for batch in batches:
        # The own anchors come first, then the own positives.
        own = torch.cat([batch.own + side * BATCH for side in range(width)])
        found = batch.between_songs()
        full[own] = found.false_negatives
        assert found.log_q is None
    same = [
        [i != j and samples.groups[a] == samples.groups[b] for j, b in enumerate(songs)] for i, a in enumerate(songs)
    ]
    assert off_diagonal(full) == same


@pytest.mark.parametrize("world_size", [1, 2, 3])
@settings(max_examples=20)
@given(samples=drawn_samples(2))
def test_the_same_works_and_known_pairs_are_no_negatives_of_a_preference(samples, world_size):
    batches, rows = of_all_ranks(samples, Stage2Config(), world_size)
    graph = samples.known
    known = {(a, b) for a in range(GROUPS) for b in graph.neighbours[graph.indptr[a] : graph.indptr[a + 1]].tolist()}
    groups = samples.groups[rows].tolist()

    def negatives_are_wrong(side):
        other = 1 - side
        return [
            [
                i != j
                and (one[side] == column[other] or one[other] == column[other] or (one[side], column[other]) in known)
                for j, column in enumerate(groups)
            ]
            for i, one in enumerate(groups)
        ]

    assert stacked(batches, lambda batch: batch.between_pairs().forth) == negatives_are_wrong(0)
    assert stacked(batches, lambda batch: batch.between_pairs().back) == negatives_are_wrong(1)
    for batch in batches:
        one, other = batch.between_songs(), batch.between_pairs().songs
        assert torch.equal(one.false_negatives, other.false_negatives)


@settings(max_examples=20)
@given(drawn_samples(2), st.booleans())
def test_without_masks_every_song_is_a_negative(samples, correct):
    stage = Stage2Config(mask_false_negatives=False, popularity_correction=correct)
    ((batch,), _) = of_all_ranks(samples, stage, 1)
    found = batch.between_pairs()
    assert found.songs.false_negatives is found.forth.false_negatives is found.back.false_negatives is None
    assert all((c.log_q is not None) == correct for c in (found.songs, found.forth, found.back))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@settings(max_examples=20)
@given(samples=drawn_samples(2))
def test_popularity_is_corrected_by_the_share_of_samples_that_have_the_song(samples, world_size):
    batches, rows = of_all_ranks(samples, Stage2Config(popularity_correction=True), world_size)
    anchors, positives = samples.songs.T.tolist()

    def log(shares):
        return torch.tensor(shares).log()

    for batch in batches:
        found = batch.between_pairs()
        forth = log([positives.count(row) / BATCH for row in rows[:, 1]])
        back = log([anchors.count(row) / BATCH for row in rows[:, 0]])
        torch.testing.assert_close(found.forth.log_q, forth)
        torch.testing.assert_close(found.back.log_q, back)
        # A song that only one place holds counts half a sample in the other.
        both = [max(anchors.count(row), 0.5) + max(positives.count(row), 0.5) for row in rows.T.ravel()]
        torch.testing.assert_close(found.songs.log_q, log([count / (2 * BATCH) for count in both]))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@settings(max_examples=20)
@given(samples=drawn_samples(2))
def test_reference_parity_encodes_every_occurrence_and_masks_nothing(samples, world_size):
    stage = Stage2Config(popularity_correction=True)
    ranks = [
        loader(numbers_only(), samples, stage, rank, world_size, reference_parity=True) for rank in range(world_size)
    ]
    ((_, rows),) = ranks[0].schedule.steps()
    batches = [batch for rank in ranks for batch in rank.batches()]
    table = torch.cat([part["songs"] for batch in batches for part in batch.micro_batches])
    for number, batch in enumerate(batches):
        local = rows[number * BATCH // world_size : (number + 1) * BATCH // world_size]
        songs = torch.cat([part["songs"] for part in batch.micro_batches])
        assert songs.tolist() == [*local[:, 0], *local[:, 1]]
        assert table[batch.places].tolist() == rows.tolist()
        assert batch.own.tolist() == list(range(len(batch.places)))
        found = batch.between_pairs()
        for part in (found.songs, found.forth, found.back):
            assert part.false_negatives is None and part.log_q is None


def tensors_of(value):
    if isinstance(value, Batch):
        return [tensor for field in fields(value) for tensor in tensors_of(getattr(value, field.name))]
    if isinstance(value, dict):
        return [tensor for key in sorted(value) for tensor in tensors_of(value[key])]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors_of(part)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize("parity", [False, True])
def test_a_batch_moves_as_a_whole(world, songs, parity):
    numbers = stage1_samples(world.index)
    pairs = np.stack([np.arange(12), np.roll(np.arange(12), 1)], axis=1)
    known = KnownPairs.of(numbers.groups[pairs].astype(np.int64), 14)
    samples = Samples(pairs, numbers.blocks, numbers.frames, numbers.groups, known)
    stage = Stage2Config(popularity_correction=True)
    batch = next(loader(songs, samples, stage, 1, 2, micro_batch_size=3, reference_parity=parity).batches())
    moved = batch.to("meta")
    assert len(tensors_of(batch)) > 10 + 3 * (not parity)
    for before, after in zip(tensors_of(batch), tensors_of(moved), strict=True):
        assert after.device.type == "meta" and before.device.type == "cpu"
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert (moved.step, moved.mask) == (batch.step, batch.mask)
    for one, other in zip(tensors_of(batch), tensors_of(batch.to("cpu")), strict=True):
        assert torch.equal(one, other)
