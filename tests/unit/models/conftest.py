"""What the tests of models and their files share."""

# First, as in htcl.models, so that a file of this folder also runs by itself.
import htcl.audio.torchaudio_cpu  # noqa: F401

# isort: split
import pytest
import torch
from transformers import BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "night", "song", "by", "the", "sea"]


@pytest.fixture
def publish(tmp_path):
    def save(state, name="htcl.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def tokenizer(tmp_path):
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"
