"""The section `report_card`: what is asked of the systems, and the competitors' values: tune them on your log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from htcl.section import Section


class LabelConfig(Section):
    """One labelled field of the catalog, for probes and zero-shot tagging."""

    column: Literal["genre", "language", "tags", "release_date"] = Field(description="Where the labels stand")
    prefix: str = Field("", description="Only values that begin so, which is then left out, such as `meter:`")
    classes: dict[str, list[str]] = Field(
        {}, description="Class -> the values that mean it, without upper case; empty: each value is its own class"
    )
    kind: Literal["single", "multiple", "key"] = Field(
        "single", description="One class a song, any number of them, or a musical key such as `Eb minor`"
    )
    min_songs: int = Field(8, gt=0, description="Held-out songs below which a class is left out")
    max_classes: int = Field(50, gt=1, description="Classes at most, those with most songs")


class AlsConfig(Section):
    """Implicit matrix factorisation (Hu, Koren & Volinsky 2008), by `implicit`."""

    factors: int = Field(32, gt=0, description="Width of the factors")
    regularization: float = Field(0.01, ge=0, description="Weight of their norm")
    alpha: float = Field(10.0, gt=0, description="Confidence that each positive response adds")
    iterations: int = Field(20, gt=0, description="Alternating passes")
    ridge: float = Field(1.0, gt=0, description="Weight of the norm in the linear map from content to the factors")


class Bm25Config(Section):
    """Item-item neighbours weighted by BM25, by `implicit`."""

    neighbours: int = Field(100, gt=0, description="Songs kept for each song")
    k1: float = Field(1.2, ge=0, description="Saturation of repeated responses")
    b: float = Field(0.75, ge=0, le=1, description="Discount of active listeners")


class Item2VecConfig(Section):
    """Skip-gram over listeners' histories (Barkan & Koenigstein 2016), by `gensim`."""

    size: int = Field(64, gt=0, description="Width of the vectors")
    window: int = Field(3, gt=0, description="Songs before and after a song that count as its context")
    epochs: int = Field(60, gt=0, description="Passes over the histories")
    sample: float = Field(1e-5, ge=0, description="Frequency above which songs are passed over now and then")
    ns_exponent: float = Field(
        -0.5, description="How negatives follow popularity (Caselles-Dupré et al. 2018: negative for music)"
    )


class ProbeConfig(Section):
    """Probes on frozen embeddings, by MARBLE's constrained protocol (Yuan et al. 2023)."""

    hidden_size: int = Field(512, gt=0, description="Units of the MLP's one hidden layer")
    dropout: float = Field(0.2, ge=0, lt=1, description="Probability, in the MLP")
    batch_size: int = Field(64, gt=0, description="Songs of a step")
    learning_rates: list[float] = Field(
        [5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2], min_length=1, description="Tried; the validation fold chooses"
    )
    epochs: int = Field(100, gt=0, description="Passes at most")
    patience: int = Field(10, gt=0, description="Passes without a better validation loss after which it stops")
    folds: int = Field(5, ge=3, description="Parts of the held-out songs, each asked once; no split group is cut")


class ReportCardConfig(Section):
    """What `htcl evaluate` asks."""

    labels: dict[str, LabelConfig] = Field(
        {
            "genre": LabelConfig(column="genre"),
            "language": LabelConfig(column="language"),
            "tags": LabelConfig(column="tags", kind="multiple"),
        },
        description="Labelled fields, by name",
    )
    listeners: int = Field(
        20_000,
        gt=0,
        description="Listeners whose histories are read, at most; the log's competitors learn from no others",
    )
    validation_listener_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the listeners who are not asked, so that tuning may have them"
    )
    recent_songs: int = Field(5, gt=0, description="Songs of the last-n history")
    zero_shot_prompt: str = Field("{}", description="Text of a class in zero-shot tagging; {} is its name")
    probes: ProbeConfig = Field(ProbeConfig(), description="Probes on frozen embeddings")
    als: AlsConfig = Field(AlsConfig(), description="Matrix factorisation, and the map from content to its factors")
    bm25: Bm25Config = Field(Bm25Config(), description="Item-item neighbours")
    item2vec: Item2VecConfig = Field(Item2VecConfig(), description="Skip-gram over histories")
    musicnn_python: str = Field(
        "", description="Python of an environment with musicnn (`make musicnn` makes one); empty: left out"
    )
