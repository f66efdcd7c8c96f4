"""Questions to the explorer: words, songs, sounds, filters."""

import base64

import numpy as np
import pytest

from htcl.explore.explorer import MOST_WORDS, Question
from htcl.explore.refusal import Refusal
from htcl.explore.songs import Filters


def tracks(answer):
    return [hit.song.track_id for hit in answer.hits]


def test_words_find_songs_with_both_cosines(explorer):
    answer = explorer.answer(Question(kind="words", value="  slow \n harp ", weight=0.0, k=3))
    assert explorer.ears.asked == ["slow harp"]
    assert tracks(answer) == ["s0", "s1", "s2"] and answer.about is None
    first = answer.hits[0]
    assert (first.meaning, first.taste) == pytest.approx((1, 1))
    assert [hit.audio for hit in answer.hits] == [True, True, False]
    assert answer.matching == 8


def test_a_song_finds_others_but_not_itself(explorer):
    answer = explorer.answer(Question(kind="song", value="s7", weight=1.0, k=2))
    assert tracks(answer) == ["dir/s6?", "s5"]
    assert answer.about.song.track_id == "s7" and answer.about.score is None


def test_filters_apply_to_hits_and_count_and_map(explorer):
    answer = explorer.answer(Question(kind="song", value="s0", weight=0.0, filters=Filters(genre="Samba")))
    assert tracks(answer) == ["s1", "dir/s6?"]
    assert answer.matching == 3
    assert answer.genres == {"Rock": 3, "Samba": 3}
    bits = np.unpackbits(np.frombuffer(base64.b64decode(answer.passing), np.uint8), bitorder="little")
    assert np.flatnonzero(bits).tolist() == [0, 1, 6]


def test_filters_alone_list_the_songs_that_pass(explorer):
    assert explorer.answer(Question(kind="browse")).hits == []
    answer = explorer.answer(Question(kind="browse", k=2, filters=Filters(tag="slow")))
    assert tracks(answer) == ["s0", "dir/s6?"] and answer.matching == 3
    assert answer.hits[0].meaning is None


def test_an_uploaded_sound_is_asked_about_by_its_key(explorer, tmp_path):
    (tmp_path / "a").write_bytes(b"sound")
    key, heard = explorer.hear(str(tmp_path / "a"))
    assert heard.cut and explorer.hear(str(tmp_path / "a"))[0] == key
    assert tracks(explorer.answer(Question(kind="sound", value=key, weight=1.0, k=1))) == ["s7"]


def test_sounds_are_forgotten_when_many_others_came(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr("htcl.explore.explorer.REMEMBERED_SOUNDS", 2)
    keys = []
    for number in range(3):
        (tmp_path / "a").write_bytes(bytes([number]))
        keys.append(explorer.hear(str(tmp_path / "a"))[0])
    assert explorer.answer(Question(kind="sound", value=keys[1])).hits
    with pytest.raises(Refusal, match="choose the file again"):
        explorer.answer(Question(kind="sound", value=keys[0]))


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("words", " \t", "Say in a few words"),
        ("words", "x" * (MOST_WORDS + 1), f"{MOST_WORDS} letters or fewer"),
        ("song", "s77", "Did you mean “s7”"),
        ("sound", "nothing", "not remembered here any more"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(explorer, kind, value, sentence):
    with pytest.raises(Refusal, match=sentence):
        explorer.answer(Question(kind=kind, value=value))
    assert explorer.ears.asked == []
