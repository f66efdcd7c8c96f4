"""What a platform needs, worked out from what was measured: the tables of docs/scale.md.

python -m tests.benchmarks.capacity [--events-per-day 1e9 ...]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from htcl.config import AudioConfig, ModelConfig
from tests.benchmarks.document import replace_section
from tests.benchmarks.measured import Measured, read_measured
from tests.benchmarks.zipf import pair_model

PART_BYTES = 32e6
"""Of the log that one task counts, as in jobs/counting.py."""
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


@dataclass(frozen=True)
class Asked:
    """What is asked for, and what is assumed because nothing here measures it.

    Attributes:
        events_per_day: of the log.
        songs: of the catalog.
        new_songs_per_day: decoded and embedded every night.
        window_days: of log behind a snapshot.
        min_users: distinct users that a pair needs.
        id_bytes: that the ids of a row of counts take more than in the benchmark, whose few songs repeat in every file.
        user_bytes: of a user in a sketch: a hash, which repeats in no file of so many.
        node_cores: of one node.
        node_gigabytes: memory of one node.
        node_hour_price: in any currency.
        efficiency: share of the rate of one core here that a core of a busy cluster reaches.
        nightly_hours: that the nightly steps may take.
        first_days: that decoding and embedding the whole catalog may take.
    """

    events_per_day: float = 10e9
    songs: float = 100e6
    new_songs_per_day: float = 100e3
    window_days: float = 30
    min_users: float = 5
    id_bytes: float = 8
    user_bytes: float = 8
    node_cores: float = 64
    node_gigabytes: float = 256
    node_hour_price: float = 3.0
    efficiency: float = 0.5
    nightly_hours: float = 4
    first_days: float = 7


@dataclass(frozen=True)
class Volumes:
    """How much of everything there is.

    Attributes:
        pairs: occurrences of pairs a day.
        rows: of the counts of a day.
        sketched: users in the sketches of a day.
        window_rows: of the counts of the window.
        known: pairs of the window that have enough users.
        buckets: as many as keep a task of the snapshot within the memory of a core, a power of two.
        parts: tasks that count a day.
    """

    pairs: float
    rows: float
    sketched: float
    window_rows: float
    known: float
    buckets: int
    parts: int


def volumes(asked: Asked, measured: Measured) -> Volumes:
    """Work them out; pairs are different or not as if songs were drawn independently."""
    model = pair_model(int(asked.songs))
    pairs = asked.events_per_day * measured.pairs_per_event
    rows = model.different(pairs) + min(asked.songs, asked.events_per_day)
    task_bytes = asked.node_gigabytes * 1e9 / asked.node_cores
    window_rows = rows * asked.window_days
    needed = window_rows * measured.snapshot_task_bytes_per_row
    return Volumes(
        pairs,
        rows,
        model.sketched(pairs),
        window_rows,
        model.different(pairs * asked.window_days, int(asked.min_users)),
        2 ** max(0, math.ceil(math.log2(needed / task_bytes))),
        math.ceil(asked.events_per_day * measured.log_bytes_per_event / PART_BYTES),
    )


def steps(asked: Asked, measured: Measured) -> str:
    """Hours, nodes and money of each step."""
    found, night, first = volumes(asked, measured), asked.nightly_hours, asked.first_days * 24
    count = asked.events_per_day * measured.count_core_seconds_per_event
    merge = found.window_rows * measured.snapshot_core_seconds_per_row
    decode, embed = measured.decode_core_seconds_per_song, measured.embed_core_seconds_per_song
    new, every = asked.new_songs_per_day, asked.songs
    rows = [
        ("count a day", f"{_short(asked.events_per_day)} events", count, night),
        ("merge the window into a snapshot", f"{_short(found.window_rows)} rows", merge, night),
        ("decode a day's new songs", f"{_short(new)} songs", new * decode, night),
        ("embed a day's new songs on CPUs", f"{_short(new)} songs", new * embed, night),
        ("decode the catalog, once", f"{_short(every)} songs", every * decode, first),
        ("embed the catalog on CPUs, for each new model", f"{_short(every)} songs", every * embed, first),
    ]
    lines = [_work(asked, *row) for row in rows]
    lines += [["training; embedding on GPUs; the search index", "not measured here", "", "", "", ""]]
    return _table(["step", "work", "core-hours here", "node-hours", "nodes", "money"], lines)


def _work(asked: Asked, step: str, what: str, core_seconds: float, hours: float) -> list[str]:
    node_hours = core_seconds / 3600 / asked.efficiency / asked.node_cores
    nodes = f"{math.ceil(node_hours / hours):,} for {hours:g} h"
    money = f"{node_hours * asked.node_hour_price:,.0f}"
    return [step, what, f"{core_seconds / 3600:,.0f}", f"{node_hours:,.1f}", nodes, money]


def storage(asked: Asked, measured: Measured) -> str:
    """Bytes of everything that is kept."""
    found, audio, model = volumes(asked, measured), AudioConfig(), ModelConfig()
    frames = 1 + int(audio.max_seconds * audio.sample_rate) // audio.hop_length
    day_log = asked.events_per_day * measured.log_bytes_per_event
    sketches = found.sketched * asked.user_bytes
    counts = found.rows * (measured.row_bytes + asked.id_bytes) + sketches
    vector = 4 * model.projection_sizes[-1]
    shuffled = asked.events_per_day * measured.shuffle_bytes_per_event + found.pairs * measured.shuffle_bytes_per_pair
    rows = [
        ("log", f"{measured.log_bytes_per_event:g} B an event", day_log, day_log * asked.window_days),
        ("counts", f"{found.rows / asked.events_per_day:.1f} rows an event", counts, counts * asked.window_days),
        ("of that the sketches of users", f"{asked.user_bytes:g} B a user", sketches, sketches * asked.window_days),
        ("shuffled while a day is counted, then gone", "", shuffled, None),
        (
            f"known pairs of a snapshot ({_short(found.known)})",
            f"{measured.known_bytes_per_pair:g} B a pair",
            None,
            found.known * measured.known_bytes_per_pair,
        ),
        ("shards", f"{frames} x {audio.n_mels} x 2 B a song", None, asked.songs * frames * audio.n_mels * 2),
        ("index of shards", f"{measured.index_bytes_per_song:g} B", None, asked.songs * measured.index_bytes_per_song),
        ("embeddings of one model", f"2 x {vector} B a song", None, asked.songs * 2 * vector),
        ("flat search index, in memory", f"{vector} B a song", None, asked.songs * vector),
    ]
    lines = [[name, unit, _bytes(day), _bytes(kept)] for name, unit, day, kept in rows]
    return _table(["what", "from", "a day", f"kept ({asked.window_days:g} days)"], lines)


def limits(asked: Asked, measured: Measured) -> str:
    """What grows faster than the events do, from a thousandth of them on."""
    rows = []
    for share in (1e-3, 1e-2, 1e-1, 1):
        part = replace(asked, events_per_day=share * asked.events_per_day)
        found = volumes(part, measured)
        blocks, files = found.parts * found.buckets, found.buckets * part.window_days
        rows.append(
            [
                f"{_short(part.events_per_day)}",
                f"{_short(found.window_rows)}",
                f"{found.parts:,}",
                f"{found.buckets:,}",
                f"{_short(blocks)} of {_bytes(found.pairs * measured.shuffle_bytes_per_pair / blocks)}",
                f"{files:,.0f}",
                f"{files * measured.list_seconds_per_file:,.1f} s",
            ]
        )
    head = [
        "events a day",
        "rows in the window",
        "parts",
        "buckets",
        "shuffle blocks of pairs",
        "files",
        "listing them",
    ]
    return _table(head, rows)


def check(measured: Measured) -> str:
    """The model of different pairs against the benchmark's own log."""
    a_day = measured.log_events / measured.log_days
    pairs = a_day * measured.pairs_per_event
    model, rows = pair_model(measured.log_songs).different(pairs) / a_day, measured.rows_per_event
    return (
        f"The constants come from logs of up to {_short(measured.log_events)} events. "
        f"Checked against them ({_short(a_day)} events a day, {_short(measured.log_songs)} songs): "
        f"{model:.2f} different pairs an event by the model, {rows:.2f} rows an event measured, "
        "which has a row for each song of a day beside."
    )


def tables(asked: Asked, measured: Measured) -> str:
    """All tables, as they stand in the document."""
    parts = ["**Work**", steps(asked, measured), "**Storage**", storage(asked, measured)]
    return "\n\n".join([*parts, "**What grows faster**", limits(asked, measured), check(measured)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def _bytes(number: float | None) -> str:
    return "" if number is None else f"{_short(number)}B" if number >= 1e3 else f"{number:.0f} B"


def main() -> None:
    """Print the tables, with any constant set otherwise, or write those of the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--write-doc", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    given = [(Asked, Asked()), (Measured, read_measured())]
    for kind, default in given:
        for field in fields(kind):
            name, value = field.name.replace("_", "-"), getattr(default, field.name)
            parser.add_argument(f"--{name}", type=type(value), default=value, help=" ")
    options: dict[str, Any] = vars(parser.parse_args())
    asked, measured = (kind(**{field.name: options[field.name] for field in fields(kind)}) for kind, _ in given)
    if options["write_doc"]:
        replace_section(DOCUMENT, "capacity", tables(asked, measured))
    else:
        print(tables(asked, measured))


if __name__ == "__main__":
    main()
