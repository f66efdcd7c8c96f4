"""From songs to the loss: which texts are encoded, which songs, in which precision, and the authors' way."""

import numpy as np
import pytest
import torch

from htcl.config import Stage2Config, StageConfig
from htcl.training.augment import TEXT_VERSIONS
from htcl.training.batches import Loader
from htcl.training.losses import stage1_loss, stage2_loss
from htcl.training.samples import Samples
from htcl.training.schedule import Schedule
from htcl.training.stages import parameter_groups
from htcl.training.step import SongEncoder, batch_loss

RATES = {"text_encoder_lr": 1e-5, "audio_encoder_lr": 2e-4, "text_head_lr": 3e-3, "head_lr": 3e-3}
FROZEN = StageConfig(**RATES | {"text_encoder_lr": 0})
PAIRS = np.array([[3, 0], [5, 1], [3, 6], [0, 2]])


@pytest.fixture
def count_texts(monkeypatch):
    """Make a model note how many songs each call of the text encoder has."""

    def counted(model):
        asked, encode = [], model.pooled_text

        def count(input_ids, *rest):
            asked.append(len(input_ids))
            return encode(input_ids, *rest)

        monkeypatch.setattr(model, "pooled_text", count)
        return asked

    return counted


def part_of(songs, *rows):
    rows = np.array(rows)
    return songs.inputs(rows, songs.mels(rows))


def batch_of(songs, rows, parity=False, **stage):
    """The first batch of these samples on one rank."""
    rows, index = np.array(rows), songs.index
    frames = np.asarray(index["frames"]).astype(np.int32)
    samples = Samples(rows, np.zeros(len(rows), np.int64), frames, np.arange(len(frames), dtype=np.int32))
    recipe = Stage2Config(**stage) if rows.shape[1] == 2 else StageConfig(**stage)
    return next(Loader(Schedule(samples, len(rows), 1, 0), songs, recipe, 0, 1, None, parity).batches())


def test_frozen_text_is_encoded_once_a_song_and_equals_the_unfrozen(tiny_model, songs, count_texts):
    model = tiny_model(2, projection_dropout=0.0).eval()
    parts = [part_of(songs, 0, 1, 2), part_of(songs, 2, 1, 3, 4), part_of(songs, 0, 4, 3, 2)]
    expected = [SongEncoder(model)([part])[0] for part in parts]
    parameter_groups(model, FROZEN)
    model.train()
    model.audio_model.eval()
    encoder, asked = SongEncoder(model), count_texts(model)
    found = [encoder([part])[0] for part in parts]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert asked == [1, 1, 1, 1, 1]  # nothing new in the last
    found[2].sum().backward()
    assert all(parameter.grad is None for parameter in model.text_model.parameters())
    assert all(parameter.grad is not None for parameter in model.text_mlp.parameters())


def test_the_bits_of_a_frozen_text_do_not_depend_on_what_is_new_beside_it(tiny_model, songs):
    """A resumed run meets songs in other company than the run that was killed."""
    model = tiny_model().train()
    model.audio_model.eval()
    parameter_groups(model, FROZEN)
    alone = SongEncoder(model)._pooled_text(part_of(songs, 4))[0]
    together = SongEncoder(model)._pooled_text(part_of(songs, 9, 4, 11, 0, 1))[1]
    assert torch.equal(alone, together)


def test_each_version_of_a_frozen_text_is_encoded_once(tiny_model, songs, count_texts):
    model = tiny_model()
    parameter_groups(model, FROZEN)
    encoder, asked = SongEncoder(model), count_texts(model)
    rows, stage = np.array([0, 1]), StageConfig(text_field_dropout=0.5)
    parts = [songs.inputs(rows, songs.mels(rows), stage, 0, step) for step in range(100)]
    for part in parts:
        encoder([part])
    assert asked == [1] * len({text for part in parts for text in part["texts"].tolist()})
    assert len(asked) == 2 * TEXT_VERSIONS


def test_text_that_is_trained_is_encoded_every_time(tiny_model, songs, count_texts):
    model = tiny_model()
    parameter_groups(model, StageConfig(**RATES))
    encoder, asked = SongEncoder(model), count_texts(model)
    for _ in range(2):
        encoder([part_of(songs, 0, 1, 2)])
    assert asked == [3, 3]


def test_known_texts_are_bounded(tiny_model, songs, count_texts, monkeypatch):
    monkeypatch.setattr("htcl.training.step.FROZEN_TEXTS", 2)
    model = tiny_model().eval()
    parameter_groups(model, FROZEN)
    encoder, asked = SongEncoder(model), count_texts(model)
    for rows in ((0, 1), (1, 2), (2, 3, 0)):
        encoder([part_of(songs, *rows)])
    assert asked == [1, 1, 1, 2]  # songs 2 and 3 are not kept, and are read together


def test_micro_batches_joined_are_the_batch(tiny_model, songs):
    encoder = SongEncoder(tiny_model(2).eval())
    whole, _ = encoder([part_of(songs, 0, 3, 5, 7)])
    parts, scales = encoder([part_of(songs, 0, 3), part_of(songs, 5, 7)])
    torch.testing.assert_close(parts, whole)
    assert whole.shape == (4, 3, 8) and scales.tolist() == pytest.approx([2.6, 2.6, 2.6])


def test_stage_1_is_the_loss_of_audio_and_text(tiny_model, songs):
    model = tiny_model().eval()
    batch = batch_of(songs, [[3], [0], [7]])
    (part,) = batch.micro_batches
    text = {"attention_mask": part["text_attention_mask"], "token_type_ids": part["token_type_ids"]}
    expected, _ = stage1_loss(
        model.get_audio_features(part["input_features"], part["attention_mask"]),
        model.get_text_features(part["input_ids"], **text),
        model.tau,
    )
    loss, terms = batch_loss(*SongEncoder(model)(batch.micro_batches), batch, parity=False)
    torch.testing.assert_close(loss, expected)
    assert set(terms) == {"audio_text"}


def stage2_by_hand(model, songs, pairs, clamp=True):
    """The loss over every occurrence of a song, nothing masked."""
    views = []
    for side in pairs.T:
        part = part_of(songs, *side)
        part.pop("songs")
        part.pop("texts")
        views.append(model(**part).to_tuple())
    halves = [(view, other) for view, other in zip(*views, strict=True)]
    return stage2_loss(*halves, model.temperatures, clamp=clamp)[0]


def test_a_song_of_several_pairs_is_encoded_once_and_counts_in_each(tiny_model, songs):
    model = tiny_model(2).eval()
    batch = batch_of(songs, PAIRS, mask_false_negatives=False)
    assert sum(len(part["songs"]) for part in batch.micro_batches) == 6
    order = [list(map(int, pair)) for pair in batch.groups]  # every song is a group of its own here
    loss, terms = batch_loss(*SongEncoder(model)(batch.micro_batches), batch, parity=False)
    torch.testing.assert_close(loss, stage2_by_hand(model, songs, np.array(order)))
    torch.testing.assert_close(loss, sum(terms.values()))
    masked = batch_of(songs, PAIRS)
    assert batch_loss(*SongEncoder(model)(masked.micro_batches), masked, parity=False)[0] < loss


def test_reference_parity_encodes_every_occurrence_and_masks_nothing(tiny_model, songs):
    model = tiny_model(2, reference_parity=True).eval()
    batch = batch_of(songs, PAIRS, parity=True)
    assert sum(len(part["songs"]) for part in batch.micro_batches) == 8
    with torch.no_grad():
        model.tau_1.fill_(6.0)  # beyond the clamp
    loss, _ = batch_loss(*SongEncoder(model)(batch.micro_batches), batch, parity=True)
    order = np.array([list(map(int, pair)) for pair in batch.groups])
    torch.testing.assert_close(loss, stage2_by_hand(model, songs, order, clamp=False))


@pytest.mark.parametrize("stage", [1, 2])
def test_bf16_computes_embeddings_in_bfloat16_and_all_else_in_float32(tiny_model, songs, stage):
    model = tiny_model(stage).eval()
    batch = batch_of(songs, np.array([[3, 0], [5, 1], [4, 6]])[:, :stage])
    plain, _ = batch_loss(*SongEncoder(model)(batch.micro_batches), batch, parity=False)
    seen = []
    for head in (model.audio_mlp, model.text_mlp):
        head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    embeddings, scales = SongEncoder(model, bf16=True)(batch.micro_batches)
    loss, terms = batch_loss(embeddings, scales, batch, parity=False)
    loss.backward()
    assert set(seen) == {torch.bfloat16} and embeddings.dtype == scales.dtype == torch.float32
    assert {tensor.dtype for tensor in (loss, *terms.values())} == {torch.float32}
    torch.testing.assert_close(loss, plain, rtol=0.02, atol=0)
    assert loss != plain
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32 and (parameter.grad is None or parameter.grad.dtype == torch.float32)
