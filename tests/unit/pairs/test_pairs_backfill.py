import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcl.errors import HTCLError
from htcl.pairs.backfill import backfill_chunks

DAY = dt.timedelta(days=1)


@given(
    start=st.dates(dt.date(2000, 1, 1), dt.date(2100, 1, 1)),
    days=st.integers(1, 60),
    lookback=st.integers(0, 9),
    size=st.integers(1, 20),
)
def test_chunks_hold_every_day_once_and_those_that_look_back_to_them(start, days, lookback, size):
    chunks = backfill_chunks(start, start + (days - 1) * DAY, lookback, size)
    held = [chunk.start + n * DAY for chunk in chunks for n in range((chunk.end - chunk.start).days + 1)]
    assert held == [start + n * DAY for n in range(days + lookback)]
    assert all((chunk.end - chunk.start).days < size for chunk in chunks)


def test_an_end_before_the_start_is_one_sentence():
    with pytest.raises(HTCLError, match="end 2025-03-01 lies before its start 2025-03-02; swap them"):
        backfill_chunks(dt.date(2025, 3, 2), dt.date(2025, 3, 1), 0, 7)
