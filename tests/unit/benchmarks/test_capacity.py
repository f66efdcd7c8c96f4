"""The arithmetic of docs/scale.md, and that the document shows what it gives."""

from dataclasses import replace

import numpy as np
import pytest

from ...benchmarks.capacity import DOCUMENT, Asked, tables, volumes
from ...benchmarks.document import replace_section, section
from ...benchmarks.measured import read_measured
from ...benchmarks.zipf import pair_model


def test_the_document_shows_what_the_constants_give():
    assert section(DOCUMENT, "capacity") == tables(Asked(), read_measured()), (
        "write it anew with: python -m tests.benchmarks.capacity --write-doc"
    )


@pytest.mark.parametrize("occurrences", [100, 10_000, 1_000_000])
def test_different_pairs_are_those_of_a_small_catalog_counted_one_by_one(occurrences):
    songs = 300
    heard = 1 / np.arange(1, songs + 1)
    share = np.triu(np.outer(heard, heard), 1)
    drawn = np.random.default_rng(0).multinomial(occurrences, share.ravel() / share.sum())
    model = pair_model(songs)
    assert model.different(occurrences) == pytest.approx((drawn > 0).sum(), rel=0.05)
    assert model.different(occurrences, 5) == pytest.approx((drawn >= 5).sum(), rel=0.05, abs=3)
    assert model.sketched(occurrences) == pytest.approx(np.minimum(drawn, 64).sum(), rel=0.05)


def test_binned_ranks_hold_every_song_and_pair_of_a_large_catalog():
    model, songs = pair_model(10**8), 10**8
    assert model.pairs.sum() == pytest.approx(songs * (songs - 1) / 2, rel=1e-9)
    assert (model.pairs * model.share).sum() == pytest.approx(1)


def test_volumes_of_twice_the_log():
    asked, measured = Asked(), read_measured()
    once, twice = volumes(asked, measured), volumes(replace(asked, events_per_day=2 * asked.events_per_day), measured)
    assert twice.pairs == 2 * once.pairs
    assert once.rows < twice.rows < 2 * once.rows  # more of them repeat
    assert once.window_rows == asked.window_days * once.rows
    assert once.known < once.window_rows
    task_bytes = asked.node_gigabytes * 1e9 / asked.node_cores
    merged = once.window_rows * measured.snapshot_task_bytes_per_row
    assert task_bytes / 2 < merged / once.buckets <= task_bytes
    assert twice.parts in (2 * once.parts, 2 * once.parts - 1)


def test_a_section_of_a_document_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# A\n<!-- x -->\nold\n<!-- /x -->\nmore \\1\n")
    replace_section(path, "x", "a \\1 b")
    assert path.read_text() == "# A\n<!-- x -->\na \\1 b\n<!-- /x -->\nmore \\1\n"
    assert section(path, "x") == "a \\1 b"
    with pytest.raises(ValueError, match="no section <!-- y -->"):
        replace_section(path, "y", "")
