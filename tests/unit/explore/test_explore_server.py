"""What is opened at the start, and what the start says when something is in the way."""

import socket

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion, switch_champion
from htcl.config_file import load_config
from htcl.embeddings.work import embeddings_table
from htcl.errors import HTCLError
from htcl.explore import server
from htcl.explore.explorer import Question
from htcl.explore.sounds import Decoder
from htcl.plan import plan
from htcl.search.index import build_index
from tests.embedding_workspace import make_workspace

TRACKS = [f"t{number}" for number in range(6)]
DIMS = {"stage1": 4, "stage2": 8}


def vectors(stage):
    made = np.random.default_rng(DIMS[stage]).normal(size=(len(TRACKS), DIMS[stage])).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def write_rows(config, model, stage):
    """One model's rows, in another order than the index has them."""
    order = list(reversed(range(len(TRACKS))))
    kind = pa.list_(pa.float32(), DIMS[stage])
    flat = vectors(stage)[order].reshape(-1)
    columns = {
        "track_id": [TRACKS[row] for row in order],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind),
        "fusion_embedding": pa.nulls(len(TRACKS), kind),
        "content_hash": ["h"] * len(TRACKS),
        "text_hash": pa.nulls(len(TRACKS), pa.string()),
    }
    return embeddings_table(config.workspace, DIMS[stage]).write(pa.table(columns), model)


@pytest.fixture
def workspace(tmp_path):
    """A published set of six songs over tiny models; gives its configuration."""
    path, _ = make_workspace(tmp_path, dict.fromkeys(TRACKS, 40), audio={"n_mels": 16})
    config = load_config(path)
    store, steps = ArtifactStore(config.workspace), plan(config)
    parts = [write_rows(config, steps[stage].key, stage) for stage in DIMS]
    version = embeddings_table(config.workspace).commit(parts, replace=[steps[stage].key for stage in DIMS])
    with store.create(steps["embeddings"].recipe) as draft:
        draft.tables = {"embeddings": version}
    build_index(config, steps["index"])
    keys = {kind: steps[kind].key for kind in ("catalog", "shards", "stage2", "embeddings", "index")}
    switch_champion(config.workspace, {**keys, "evaluation": ""}, "test", None)
    return config


def test_what_is_published_is_opened_with_both_spaces(workspace):
    decoder = Decoder(workspace.audio)
    explorer, page = server.open_explorer(workspace, require_champion(workspace.workspace), decoder)
    assert explorer.songs.tracks == explorer.spaces.tracks == TRACKS
    np.testing.assert_array_equal(explorer.spaces.meaning, vectors("stage1"))
    np.testing.assert_array_equal(explorer.spaces.taste, vectors("stage2"))
    assert page.model == require_champion(workspace.workspace).stage2 and "UTC" in page.since
    answer = explorer.answer(Question(kind="words", value="w1 w2", k=3))
    assert len(answer.hits) == 3 and not answer.hits[0].audio
    cosines = vectors("stage1") @ explorer.ears.words("w1 w2").meaning
    assert answer.hits[0].meaning == pytest.approx(cosines[TRACKS.index(answer.hits[0].song.track_id)], abs=1e-6)
    decoder.close()


def test_a_catalog_that_lacks_a_song_is_named(workspace):
    champion = require_champion(workspace.workspace)
    store = ArtifactStore(workspace.workspace)
    recipe = plan(workspace)["catalog"].recipe
    folder = store.fetch("catalog", recipe.key)
    rows = pq.read_table(folder / "catalog.parquet")
    other = type(recipe)("catalog", 99, {}, {})
    with store.create(other) as draft:
        pq.write_table(rows.slice(1), draft.path / "catalog.parquet")
    switch_champion(workspace.workspace, {**champion.keys, "catalog": other.key}, "test", champion)
    decoder = Decoder(workspace.audio)
    with pytest.raises(HTCLError, match=f"catalog {other.key} has no song 't0'"):
        server.open_explorer(workspace, require_champion(workspace.workspace), decoder)


def test_a_workspace_without_a_champion_ends_the_start(tmp_path):
    path, _ = make_workspace(tmp_path, {"a": 40})
    with pytest.raises(HTCLError, match=r"nothing is published in .* yet; run `htcl run CONFIG`"):
        server.serve(load_config(path))


@pytest.fixture
def without_models(workspace, monkeypatch):
    """A start that ends where the models would be loaded."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "open_explorer", stop)
    return workspace


def test_a_port_that_is_taken_is_said_before_the_models_are_loaded(without_models):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(HTCLError, match=rf"cannot listen on 127.0.0.1:{port}: .*; choose another by --host"):
            server.serve(without_models, port=port)
    with pytest.raises(HTCLError, match=r"cannot listen on no\.such\.host\.invalid:0"):
        server.serve(without_models, host="no.such.host.invalid", port=0)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_an_address_that_others_reach_is_warned_about(without_models, caplog, host, warned):
    with caplog.at_level("WARNING", logger="htcl.explore"), pytest.raises(KeyboardInterrupt):
        server.serve(without_models, host=host, port=0)
    assert any("whoever reaches 0.0.0.0" in record.getMessage() for record in caplog.records) == warned
