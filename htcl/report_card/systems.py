"""The systems of the report card, each as scores of songs for songs and for listeners, by one list of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from htcl.audio.paths import resolve_audio_path
from htcl.config import PipelineConfig
from htcl.evaluation.baselines.als import Als, mapped_to_factors
from htcl.evaluation.baselines.bm25 import Bm25
from htcl.evaluation.baselines.item2vec import item2vec
from htcl.evaluation.baselines.mfcc import standardised
from htcl.evaluation.baselines.musicnn import musicnn_vectors
from htcl.evaluation.baselines.text_alone import text_alone
from htcl.evaluation.collapse import directed
from htcl.evaluation.metrics import RowSets
from htcl.evaluation.scorers import Scorer, embedding_scorer, popularity_scorer, unit_rows
from htcl.plan import audio_root
from htcl.report_card.world import World
from htcl.text import metadata_text

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Knows = Literal["nothing", "plays", "content", "log", "content and log"]


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        name: in tables.
        knows: what its scores come from; what knows the log alone says nothing of a new song, plays the same of all.
        songs: from rows of anchors to scores over all candidates.
        listeners: from histories to a scorer of their places.
        vectors: embeddings of the candidates [n, d], for probes; None where there are none to speak of.
        texts: embeds texts among the vectors [m, d]; None where it cannot.
    """

    name: str
    knows: Knows
    songs: Scorer
    listeners: Callable[[RowSets], Scorer]
    vectors: Float32 | None = None
    texts: Callable[[list[str]], Float32] | None = None

    @property
    def cold(self) -> bool:
        """Whether it can say anything of songs that nobody has played."""
        return self.knows != "log"


def embedding_system(
    name: str, knows: Knows, vectors: Float32, texts: Callable[[list[str]], Float32] | None = None
) -> System:
    """A system by cosine; a listener is the mean of the unit vectors of a history."""

    def listeners(histories: RowSets) -> Scorer:
        unit = unit_rows(vectors)
        sums = np.add.reduceat(unit[histories.indices], histories.indptr[:-1], axis=0)
        return embedding_scorer(vectors, queries=directed(sums, 0)[0])

    return System(name, knows, embedding_scorer(vectors), listeners, vectors, texts)


def competitors(config: PipelineConfig, world: World, ours: Mapping[str, Float32]) -> Iterator[System]:
    """All systems that are no model of ours, and what the map to the factors of ALS makes of ours.

    Args:
        config: reads `report_card`, `model`, `evaluation` and `training.seed`.
        world: what they learn from; of the log they see what training saw, by the listeners that were read.
        ours: embeddings of our models that the map starts from, by name [n, d].

    Yields:
        Systems, the cheap ones first.
    """
    section = config.report_card
    seed = config.evaluation.seed + config.training.seed  # what is drawn is drawn anew for each training of ours
    popular = popularity_scorer(world.popularity)
    yield _chance(len(world.tracks), seed)
    yield System("popularity", "plays", popular, lambda histories: popular)
    heard = {"MFCC": standardised(world.mfcc(), world.train)}
    if section.musicnn_python:
        heard["musicnn"] = _musicnn(config, world)
    for name, content in heard.items():
        yield embedding_system(name, "content", content)
    described = [metadata_text(song, config.model.text_fields) for song in world.catalog]
    # A probe that finds a song's genre in the text that says it has found nothing.
    text = embedding_system("text alone", "content", text_alone(config, described))
    yield replace(text, vectors=None)
    als = Als(world.plays, section.als, seed)
    yield System("ALS", "log", als.songs(), als.listeners)
    bm25 = Bm25(world.plays, section.bm25)
    yield System("BM25", "log", bm25.songs(), bm25.listeners)
    together = item2vec(world.past, len(world.tracks), section.item2vec, seed)
    yield of_the_log("item2vec", together)
    for name, content in {**ours, **heard}.items():
        yield mapped_system(name, content, als, world.train, section.als.ridge)


def _chance(songs: int, seed: int) -> System:
    """Vectors and texts of no meaning: chance in every question."""
    rng = np.random.default_rng(seed)

    def drawn(number: int) -> Float32:
        return rng.standard_normal((number, 100), np.float32)

    return embedding_system("random", "nothing", drawn(songs), lambda texts: drawn(len(texts)))


def mapped_name(name: str) -> str:
    """What a system is called whose vectors go through the map to the factors of ALS."""
    return f"{name} mapped to ALS"


def mapped_system(name: str, content: Float32, als: Als, train: Bools, ridge: float) -> System:
    """All songs where a map from their content puts them among the factors, and listeners as ALS knows them."""
    mapped = mapped_to_factors(content, als, train, ridge)
    near = embedding_system(mapped_name(name), "content and log", mapped)
    return replace(near, listeners=lambda histories: als.listeners_of(mapped, histories))


def _musicnn(config: PipelineConfig, world: World) -> Float32:
    root, audio = audio_root(config), config.audio
    files = tuple(resolve_audio_path(root, song["audio_path"]) for song in world.catalog)
    return musicnn_vectors(config.report_card.musicnn_python, files, audio.sample_rate, audio.max_seconds)


def of_the_log(name: str, vectors: Float32) -> System:
    """Vectors of known songs; the others have none, and come last by a score below every cosine."""
    known = np.any(vectors != 0, axis=1)
    embedded = embedding_system(name, "log", np.where(known[:, None], vectors, 1).astype(np.float32))

    def last(scorer: Scorer) -> Scorer:
        return lambda rows: np.where(known, scorer(rows), np.float32(-2))

    return System(name, "log", last(embedded.songs), lambda histories: last(embedded.listeners(histories)))
