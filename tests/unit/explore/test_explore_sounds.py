"""Words and files become points by real, tiny models and the real decoder."""

import numpy as np
import pytest
from transformers import BertTokenizer

from htcl.audio.decode import decode_audio
from htcl.audio.features import log_mel
from htcl.config import AudioConfig
from htcl.embeddings.embedder import SongEmbedder
from htcl.explore.refusal import Refusal
from htcl.explore.sounds import BROKEN, Decoder, ModelEars
from htcl.models import HTCLProcessor
from tests.embedding_workspace import N_MELS, WORDS, tiny_model
from tests.unit.audio.conftest import chirp, write_audio

__all__ = ["write_audio"]
AUDIO = AudioConfig(n_mels=N_MELS)


@pytest.fixture(scope="module")
def models():
    made = [tiny_model(stage) for stage in (1, 2)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    return [SongEmbedder(model, HTCLProcessor(tokenizer, model.config.audio_config), "cpu") for model in made]


@pytest.fixture(scope="module")
def ears(models):
    decoder = Decoder(AUDIO)
    yield ModelEars(*models, decoder, AUDIO)
    decoder.close()


def test_words_lie_in_both_spaces(ears, models):
    point = ears.words("w1 w2")
    assert (point.meaning.shape, point.taste.shape) == ((4,), (8,))
    for vector, model in zip((point.meaning, point.taste), models, strict=True):
        np.testing.assert_allclose(vector, model.embed_texts(["w1 w2"])[0], atol=1e-6)
    assert ears.words("w1 w2") is point


def test_a_file_lies_where_the_pipeline_would_put_it(ears, models, write_audio):
    path = write_audio("flac", chirp(5, 44_100))
    heard = ears.sound(str(path))
    mel = log_mel(decode_audio(path).samples, n_mels=N_MELS)
    for vector, model in zip((heard.point.meaning, heard.point.taste), models, strict=True):
        np.testing.assert_allclose(vector, model.embed_songs([mel])[0][0], atol=1e-5)
    assert heard.seconds == pytest.approx(5, abs=0.1) and not heard.cut


def test_of_a_long_file_the_beginning_is_heard(ears, write_audio):
    path = write_audio("wav", chirp(124, 44_100))
    heard = ears.sound(str(path))
    assert heard.cut and heard.seconds == 120


def test_bad_files_are_refused_in_a_sentence(ears, write_audio, tmp_path):
    text, empty, broken = (tmp_path / name for name in ("text.wav", "empty.wav", "broken.flac"))
    text.write_text("This is not a sound. " * 50)
    empty.touch()
    whole = write_audio("flac", chirp(5, 44_100)).read_bytes()
    broken.write_bytes(whole[:200] + bytes(len(whole) - 200))
    short, silent = (
        write_audio("wav", chirp(0.5, 44_100), "short"),
        write_audio("wav", np.zeros(4 * 44_100, np.float32), "silent"),
    )
    for path, sentence in (
        (text, "not a sound file that can be read here; wav, flac"),
        (empty, "empty"),
        (broken, BROKEN),
        (short, "too short; the models need at least 2 seconds"),
        (silent, "nothing to hear"),
    ):
        with pytest.raises(Refusal, match=sentence) as refused:
            ears.sound(str(path))
        assert refused.value.status == 422


def test_a_model_that_needs_more_frames_makes_the_shortest_sound_longer(models):
    decoder = Decoder(AUDIO)
    strict = ModelEars(*models, decoder, AudioConfig(min_seconds=0.1))
    numbers = models[1].processor.audio_config
    assert strict.min_seconds == pytest.approx((numbers.min_frames - 1) * numbers.hop_length / numbers.sample_rate)
    decoder.close()
