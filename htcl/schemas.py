"""The data contracts: one Arrow schema per table; each field says what it holds."""

from __future__ import annotations

import pyarrow as pa

from htcl.errors import HTCLError


def _field(name: str, type_: pa.DataType, doc: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"doc": doc})


_TS = pa.timestamp("us", tz="UTC")

INTERACTIONS = pa.schema(
    [
        _field("event_id", pa.string(), "Unique id of the event, where the log has one"),
        _field("ts", _TS, "When it happened", nullable=False),
        _field("user_id", pa.string(), "Who; replaced by a keyed hash at the door", nullable=False),
        _field("track_id", pa.string(), "The song responded to", nullable=False),
        _field("event_type", pa.string(), "What the user did, such as play, skip, like", nullable=False),
        _field("duration_ratio", pa.float32(), "Share of the song heard"),
        _field("played_seconds", pa.float32(), "Seconds of the song heard"),
        _field("session_id", pa.string(), "Session, where the log has one"),
        _field("trigger_track_id", pa.string(), "The song because of which this one was recommended"),
    ]
)
"""One event a row. Input."""

CATALOG = pa.schema(
    [
        _field("track_id", pa.string(), "Unique id of the track", nullable=False),
        _field("title", pa.string(), "Title", nullable=False),
        _field("artist", pa.string(), "Artist or composer"),
        _field("album", pa.string(), "Album or work"),
        _field("genre", pa.string(), "Genre or style"),
        _field("language", pa.string(), "Language of title or lyrics"),
        _field("tags", pa.list_(pa.string()), "Further words"),
        _field("release_date", pa.string(), "ISO date, or its year"),
        _field("audio_path", pa.string(), "File, relative to the audio root", nullable=False),
        _field("duration_s", pa.float32(), "Stated length, seconds; a much shorter file counts as truncated"),
        _field("split_group", pa.string(), "Versions of one work share it; a split keeps them together"),
    ]
)
"""One track a row. Input; split_group is filled with track_id where it is missing."""

PAIR_COUNTS = pa.schema(
    [
        _field("dt", pa.string(), "Day, ISO date, UTC", nullable=False),
        _field("source", pa.string(), "copreference, triggered, or item: a song with itself", nullable=False),
        _field(
            "anchor_id", pa.string(), "Trigger song; of copreference the lesser id (or the first heard)", nullable=False
        ),
        _field("positive_id", pa.string(), "The song responded to", nullable=False),
        _field("n_baskets", pa.int64(), "Baskets that hold the pair (item: the song)", nullable=False),
        _field(
            "weight", pa.int64(), "Sum over baskets of n songs x 2**20: 1/(n-1), item 1/n, triggered 1", nullable=False
        ),
        _field("n_negative", pa.int64(), "Baskets with a negative response to a triggered song", nullable=False),
        _field("n_impressions", pa.int64(), "Baskets in which a triggered song was shown", nullable=False),
        _field(
            "users",
            pa.list_(pa.int64()),
            "Bottom-64 sketch of keyed user hashes, ascending; item: none",
            nullable=False,
        ),
    ]
)
"""One day x pair x source a row; additive over days. One table, so that one commit replaces all counts of a day."""

LOG_QUALITY = pa.schema(
    [
        _field("dt", pa.string(), "Day, ISO date, UTC", nullable=False),
        _field("measure", pa.string(), "events, rejects or funnel", nullable=False),
        _field("name", pa.string(), "Event type, reason, or step of the funnel", nullable=False),
        _field("value", pa.int64(), "How many", nullable=False),
    ]
)
"""What a day of the log held: one day x measure x name a row."""

QUALITY = pa.schema(
    [
        _field("dt", pa.string(), "Day, ISO date, UTC; null for the whole window"),
        _field("measure", pa.string(), "events, rejects, funnel, positives_per_anchor or gini", nullable=False),
        _field("name", pa.string(), "Event type, reason, step of the funnel, degree, or what of", nullable=False),
        _field("value", pa.float64(), "How many, or how unequal", nullable=False),
    ]
)
"""Data quality of a snapshot: what each day of the log held, and the pairs of the whole window."""

LOG_FILES = pa.schema(
    [
        _field("path", pa.string(), "File, relative to the log", nullable=False),
        _field("tag", pa.string(), "Size and change tag when it was counted", nullable=False),
        _field("days", pa.list_(pa.int32()), "Days that it has events of, since 1970", nullable=False),
    ]
)
"""The files that the counts were made from: one file a row."""

PAIRS = pa.schema(
    [
        _field("anchor_id", pa.string(), "Query song", nullable=False),
        _field("positive_id", pa.string(), "A song that the same users respond to", nullable=False),
        _field("source", pa.string(), "triggered or copreference", nullable=False),
        _field("n_users", pa.int64(), "Distinct users, exact below 64", nullable=False),
        _field("weight", pa.float64(), "Decayed sum of basket weights", nullable=False),
        _field("rate", pa.float64(), "Triggered: positive responses per time shown or judged; null where unknown"),
        _field(
            "score",
            pa.float64(),
            "pairs.score of the config; of triggered pairs their rate, where it is known",
            nullable=False,
        ),
        _field("last_dt", pa.string(), "Newest day that holds the pair", nullable=False),
        _field("split", pa.string(), "train, validation, test_warm or test_cold", nullable=False),
    ]
)
"""One directed pair of a window snapshot a row."""

SHARDS = pa.schema(
    [
        _field("track_id", pa.string(), "The track", nullable=False),
        _field("shard", pa.string(), "Tar file, relative to the shards folder", nullable=False),
        _field("offset", pa.int64(), "First byte of the .mel.npy payload in the tar", nullable=False),
        _field("size", pa.int64(), "Bytes of the payload", nullable=False),
        _field("frames", pa.int32(), "Frames of the log-mel", nullable=False),
        _field("content_hash", pa.string(), "Hash of the log-mel; equal audio has equal hashes", nullable=False),
        _field("file_hash", pa.string(), "Hash of the audio file's bytes"),
        _field(
            "source_tag",
            pa.string(),
            "Path and change tag of the audio, what the catalog says of it, settings",
            nullable=False,
        ),
        _field("split_group", pa.string(), "Versions of one work share it", nullable=False),
        _field("split", pa.string(), "train, validation or test", nullable=False),
    ]
)
"""Index of the WebDataset shards: one track a row. Tracks with equal audio may share the bytes."""

REFUSED_AUDIO = pa.schema(
    [
        _field("track_id", pa.string(), "The track", nullable=False),
        _field("source_tag", pa.string(), "As in the index, of the file that was refused", nullable=False),
        _field("limits", pa.string(), "Limits of decoding, where one of them was the reason"),
        _field("reason", pa.string(), "One word", nullable=False),
        _field("detail", pa.string(), "What was seen", nullable=False),
    ]
)
"""Audio that is not opened again before it changes: one refused track of the catalog a row."""

REJECTS = pa.schema(
    [
        _field("source", pa.string(), "catalog, interactions or audio", nullable=False),
        _field("key", pa.string(), "What was refused: track, event or file; never a user"),
        _field("reason", pa.string(), "One word", nullable=False),
        _field("detail", pa.string(), "What was seen"),
        _field("dt", pa.string(), "Day of the event, where there is one"),
        _field("n_rows", pa.int64(), "Input rows that it stands for", nullable=False),
    ]
)
"""One refused file, song or catalog row a row; of the log one a file, day and reason, with an example."""


def embeddings_schema(dim: int) -> pa.Schema:
    """One track x model a row; `dim` is the width of the audio head."""
    vector = pa.list_(pa.field("element", pa.float32()), dim)
    return pa.schema(
        [
            _field("track_id", pa.string(), "The track", nullable=False),
            _field("model_id", pa.string(), "Artifact key of the model", nullable=False),
            _field("embedding", vector, "Audio head, unit length: what search uses", nullable=False),
            _field("fusion_embedding", vector, "Fusion head, unit length; null before stage 2"),
            _field("content_hash", pa.string(), "Hash of the log-mel it was made of", nullable=False),
            _field("text_hash", pa.string(), "Hash of the text that the fusion read; null before stage 2"),
        ]
    )


def require_columns(columns: dict[str, str], present: list[str], schema: pa.Schema, origin: str) -> None:
    """Check that an input has what its contract cannot do without.

    Args:
        columns: contract column -> name in the input, as configured.
        present: columns of the input.
        schema: the contract.
        origin: config section that names the input, for the error.

    Raises:
        HTCLError: naming the missing column, those there are, and the setting that maps them.
    """
    for name in columns:
        if name not in schema.names:
            raise HTCLError(f"{origin}.columns: the contract has no column {name!r}; it has {', '.join(schema.names)}")
    for name in schema.names:
        source = columns.get(name, name)
        optional = schema.field(name).nullable and name not in columns
        if source not in present and not optional:
            raise HTCLError(
                f"{origin}: column {source!r} is missing (the input has {', '.join(sorted(present))}); "
                f"name the right one with {origin}.columns.{name}"
            )
