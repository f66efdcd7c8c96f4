"""Baskets, pairs and songs against slow references of a few lines."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs import counting
from htcl.pairs.baskets import NEGATIVE, POSITIVE, basket_numbers
from htcl.pairs.counting import (
    COPREFERENCE,
    SOURCES,
    WEIGHT_ONE,
    add_up,
    concatenate,
    copreference_pairs,
    empty_counts,
    item_counts,
    take,
    triggered_pairs,
)
from tests.unit.pairs.reference import (
    DAY,
    EVENTS,
    GAP,
    MINUTE,
    as_dict,
    basket_keys,
    baskets_of,
    columns,
    copreference,
    items,
    songs_of_baskets,
    triggered,
)

moderate = settings(max_examples=30)


def everything(rows, cap=3, symmetric=True):
    """All counts of some events."""
    events, numbers, pleased, baskets = baskets_of(rows, cap)
    return [
        copreference_pairs(baskets, symmetric),
        item_counts(baskets),
        triggered_pairs(events, numbers, pleased),
    ]


@moderate
@given(EVENTS)
def test_basket_numbers_part_events_as_the_reference_does(rows):
    rows = sorted(rows, key=lambda row: (row[0], row[2], row[3]))
    numbers = basket_numbers(columns(rows), GAP).tolist()
    keys = basket_keys(rows)
    assert len(set(zip(numbers, keys, strict=True))) == len(set(keys)) == len(set(numbers))
    assert set(numbers) == set(range(len(set(numbers))))


@moderate
@given(EVENTS, st.integers(2, 5))
def test_baskets_hold_the_first_songs_heard_that_nothing_speaks_against(rows, cap):
    *_, baskets = baskets_of(rows, cap)
    found = Counter(
        (int(baskets.user[i]), int(baskets.day[i]), *baskets.track[baskets.basket == i].tolist())
        for i in range(len(baskets.size))
    )
    expected = Counter((user, day, *sorted(songs)) for (user, _, _, day), songs in songs_of_baskets(rows, cap).items())
    assert found == expected
    assert baskets.size.tolist() == np.bincount(baskets.basket, minlength=len(baskets.size)).tolist()


@moderate
@given(EVENTS, st.integers(2, 5), st.booleans(), st.sampled_from([1, 4, counting.PAIRS_AT_ONCE]))
def test_copreference_pairs_equal_the_reference_however_many_are_expanded_at_once(rows, cap, symmetric, at_once):
    *_, baskets = baskets_of(rows, cap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "PAIRS_AT_ONCE", at_once)
        assert as_dict(copreference_pairs(baskets, symmetric)) == copreference(rows, cap, symmetric)


@moderate
@given(EVENTS)
def test_triggered_pairs_count_each_response_once_a_basket(rows):
    events, numbers, pleased, _ = baskets_of(rows)
    assert as_dict(triggered_pairs(events, numbers, pleased)) == triggered(rows)


@moderate
@given(EVENTS, st.integers(2, 5))
def test_item_counts_equal_the_reference(rows, cap):
    counts = item_counts(baskets_of(rows, cap)[-1])
    assert as_dict(counts) == items(rows, cap)
    assert counts.anchor.tolist() == counts.positive.tolist()


@moderate
@given(EVENTS, st.booleans())
def test_counting_day_by_day_equals_counting_all_days(rows, symmetric):
    whole = {k: v for counts in everything(rows, symmetric=symmetric) for k, v in as_dict(counts).items()}
    daily = {}
    for day in {row[2] // DAY for row in rows}:
        for counts in everything([row for row in rows if row[2] // DAY == day], symmetric=symmetric):
            daily.update(as_dict(counts))
    assert daily == whole


@moderate
@given(EVENTS, st.data())
def test_counts_of_parts_of_the_users_add_up_to_the_whole(rows, data):
    part = {user: data.draw(st.integers(0, 2)) for user in range(4)}
    parts = [c for p in range(3) for c in everything([row for row in rows if part[row[0]] == p])]
    order = data.draw(st.permutations(range(len(parts))))
    assert as_dict(add_up([parts[n] for n in order])) == as_dict(add_up(everything(rows)))


@moderate
@given(EVENTS, st.data())
def test_rows_of_counts_are_taken_with_their_sketches(rows, data):
    counts = concatenate(everything(rows))
    picked = data.draw(st.lists(st.sampled_from(range(len(counts.day))), max_size=9)) if len(counts.day) else []
    found = take(counts, np.array(picked, dtype=np.intp))
    assert found.figures.tolist() == counts.figures[:, picked].tolist()
    for column, before in zip(found.key, counts.key, strict=True):
        assert column.tolist() == before[picked].tolist()
    for place, row in enumerate(picked):
        sketch = found.users[found.offsets[place] : found.offsets[place + 1]]
        assert sketch.tolist() == counts.users[counts.offsets[row] : counts.offsets[row + 1]].tolist()


def test_no_events_give_no_counts():
    for counts in [*everything([]), empty_counts(), add_up([empty_counts(), empty_counts()])]:
        assert as_dict(counts) == {} and counts.offsets.tolist() == [0]


def row(ts, track, response=POSITIVE, session=7, trigger=-1):
    return (1, session, 20_000 * DAY + ts * MINUTE, track, trigger, response)


@pytest.mark.parametrize("skip", [0, 2])
def test_a_negative_response_vetoes_its_song_in_that_basket_alone(skip):
    rows = [row(1, 0), row(1, 1), row(1, 2), row(skip, 0, NEGATIVE)]
    again = [row(1, 0, session=8), row(1, 1, session=8)]
    assert list(as_dict(everything(rows)[0])) == [(20_000, COPREFERENCE, 1, 2)]
    assert list(as_dict(everything(rows + again)[0])) == [(20_000, COPREFERENCE, 0, 1), (20_000, COPREFERENCE, 1, 2)]


@pytest.mark.parametrize(
    ("heard", "pair"),
    [((5, 9), (0, 1)), ((9, 5), (1, 0)), ((5, 5), (0, 1))],
    ids=["lesser first", "greater first", "at once"],
)
def test_a_directed_pair_leads_from_the_song_heard_first(heard, pair):
    rows = [row(ts, track) for track, ts in enumerate(heard)]
    # A song that is heard again later was heard first all the same.
    rows.append(row(20, pair[0]))
    (key,) = as_dict(everything(rows, symmetric=False)[0])
    assert key == (20_000, COPREFERENCE, *pair)


def test_a_pair_that_was_only_refused_has_no_basket_weight_or_user():
    *_, counts = everything([row(0, 1, NEGATIVE, trigger=0)])
    assert counts.figures.tolist() == [[0], [0], [1], [0]] and counts.users.tolist() == []


def test_weights_of_a_basket_are_fixed_point_shares():
    counts = everything([row(ts, ts) for ts in range(4)], cap=100)[0]
    assert set(counts.figures[1].tolist()) == {round(WEIGHT_ONE / 3)}


def test_names_of_sources_stand_in_order():
    # Rows are sorted by number where they are counted, and by name where they are read.
    assert list(SOURCES) == sorted(SOURCES)
