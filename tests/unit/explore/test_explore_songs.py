"""Filters, counts and names of the catalog."""

import numpy as np
import pyarrow as pa
import pytest

from htcl.explore.refusal import Refusal
from htcl.explore.songs import Filters, Songs, fold, year_of
from htcl.schemas import CATALOG


def passing(songs, **filters):
    return np.flatnonzero(songs.mask(Filters(**filters))).tolist()


def test_without_filters_every_song_passes(songs):
    assert passing(songs) == list(range(len(songs)))
    assert passing(songs, artist="  ", tag=" ") == list(range(len(songs)))


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"genre": "Rock"}, [2, 3, 5]),
        ({"genre": "Polka"}, []),
        ({"language": "pt"}, [0, 6]),
        ({"artist": "ana"}, [0, 3]),
        ({"artist": "ÁNA L"}, [0]),
        ({"tag": "fast"}, [2, 5]),
        ({"tag": "harp"}, [0, 1]),
        ({"year_from": 2010}, [2, 5, 6, 7]),
        ({"year_to": 2003}, [0, 1]),
        ({"year_from": 2003, "year_to": 2010}, [1, 2]),
        ({"genre": "Samba", "tag": "slow", "year_to": 2010}, [0]),
    ],
)
def test_songs_that_a_filter_leaves(songs, filters, rows):
    assert passing(songs, **filters) == rows


def test_a_count_says_what_a_choice_would_leave_beside_the_other_filters(songs):
    chosen = Filters(genre="Rock", language="en")
    assert songs.genres.counts(songs.mask(chosen, without="genre")) == {"Rock": 2, "Samba": 1}
    assert songs.languages.counts(songs.mask(chosen, without="language")) == {"en": 2, "pt": 0}


def test_suggestions_begin_with_the_words_first(songs):
    assert [song.track_id for song in songs.suggest("blue", 8)] == ["s0", "s3"]
    assert [song.track_id for song in songs.suggest("HARP", 8)] == ["s1", "s0"]
    assert [song.track_id for song in songs.suggest("etude ana", 8)] == ["s3"]
    assert [song.track_id for song in songs.suggest("bo", 3)] == ["s5", "s1", "s2"]
    assert songs.suggest("  ", 8) == [] and songs.suggest("xyz", 8) == []


def test_a_title_that_begins_so_is_suggested_before_a_thousand_that_only_hold_it():
    rows = [{"track_id": f"s{number:04}", "title": f"My love {number}"} for number in range(1_200)]
    rows.append({"track_id": "t", "title": "Love"})
    many = Songs(pa.Table.from_pylist([{"audio_path": "x.wav"} | row for row in rows], CATALOG))
    assert [song.title for song in many.suggest("love", 2)] == ["Love", "My love 0"]


def test_what_the_catalog_does_not_know_is_empty(songs):
    song = songs.song(4)
    assert (song.artist, song.genre, song.tags, song.year) == ("", "", (), None)
    assert songs.song(0).year == 2001
    assert songs.year_range() == (2001, 2021)
    assert songs.top_tags(2) == ["slow", "harp"]


def test_an_unknown_song_names_the_nearest_id(songs):
    assert songs.row("s3") == 3
    with pytest.raises(Refusal, match=r"no song “ss3” in the published set. Did you mean “s3”\?"):
        songs.row("ss3")
    with pytest.raises(Refusal, match=r"published set\.$") as refused:
        songs.row("qqqqqq")
    assert refused.value.status == 404


def test_text_and_dates_are_read_as_people_write_them():
    assert fold("ÉTUDE Straße") == "etude strasse"
    assert [year_of(date) for date in ("1999-12-31", "1999")] == [1999, 1999]
    assert {year_of(date) for date in ("99", "", None, "May 1999", "١٩٩٩")} == {None}
