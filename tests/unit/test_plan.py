import os

import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import plan, raw_inputs
from htcl.users import forget_user

SERVED = {"embeddings", "index"}
JUDGED = {"gate_set", "evaluation", "report"}
ALL = {"catalog", "pairs", "shards", "stage1", "stage2", *SERVED, *JUDGED}
FROM_STAGE2 = {"stage2", *SERVED, *JUDGED}
FROM_STAGE1 = {"stage1", *FROM_STAGE2}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "catalog.jsonl").write_text('{"track_id": "a"}\n')
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "2025-01-01.jsonl").write_text("{}\n")
    (tmp_path / "htcl.yaml").write_text("workspace: work\ncatalog: {path: catalog.jsonl}\ninteractions: {path: log}\n")
    return tmp_path


def steps(project, *overrides, **arguments):
    return plan(load_config(project / "htcl.yaml", list(overrides)), **arguments)


def keys(project, *overrides, **arguments):
    return {name: step.key for name, step in steps(project, *overrides, **arguments).items()}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def publish(project, step):
    with ArtifactStore(str(project / "work")).create(step.recipe):
        pass


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("catalog.columns.title=name", ALL),
        ("split.seed=1", ALL),
        ("pairs.top_k=3", {"pairs", *FROM_STAGE2}),
        ("interactions.timezone=CET", {"pairs", *FROM_STAGE2}),
        ("audio.n_mels=64", {"shards", "pairs", *FROM_STAGE1}),
        ("stage1.dropout=0.2", FROM_STAGE1),
        ("training.precision=bf16", FROM_STAGE1),
        ("stage1.epochs=3", FROM_STAGE1),
        ("stage2.epochs=3", FROM_STAGE2),
        ("search.index_factory=HNSW32", {"index"}),
        ("gate.songs=9", JUDGED),
        ("evaluation.seed=1", {"evaluation", "report"}),
        ("split.warm_test_share=0.2", {"pairs", *FROM_STAGE2}),
        ("report.previews=3", {"report"}),
        ("gate.tolerance=0.5", {"report"}),
        ("name=other", {"report"}),
    ],
)
def test_a_setting_changes_exactly_the_keys_downstream_of_it(project, override, names):
    assert changed(keys(project), keys(project, override)) == names


@pytest.mark.parametrize(
    "override",
    [
        "catalog.format=jsonl",
        "interactions.format=jsonl",
        "shards.max_mb=9",
        "training.zero_stage=2",
        "catalog.max_reject_share=0.5",
        "interactions.max_reject_share=0.5",
        "audio.max_reject_share=0.5",
        "training.processes=2",
        "training.log_every_steps=1",
        "training.checkpoint_every_steps=1",
        "training.stall_seconds=9",
        "spark.master=yarn",
        "embedding.batch_size=2",
        "nightly.epochs=9",
        "steps.retries=5",
        "steps.timeout_hours=1",
    ],
)
def test_operational_settings_change_no_key(project, override):
    assert changed(keys(project), keys(project, override)) == set()


def test_moving_the_inputs_or_the_workspace_changes_no_key(project):
    before = keys(project, "workspace=elsewhere")
    moved = project / "moved"
    moved.mkdir()
    for name in ("catalog.jsonl", "log", "audio", "htcl.yaml"):
        (project / name).rename(moved / name)
    assert keys(moved) == before


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("catalog.jsonl", ALL),
        ("log/2025-01-02.jsonl", {"pairs", *FROM_STAGE2}),
        ("audio/b.wav", {"shards", "pairs", *FROM_STAGE1}),
        ("audio/a.wav", {"shards", "pairs", *FROM_STAGE1}),
    ],
)
def test_a_new_or_changed_input_changes_exactly_the_keys_downstream_of_it(project, path, names):
    before = keys(project)
    (project / path).write_bytes(b"other content\n")
    assert changed(before, keys(project)) == names


def test_audio_counts_whatever_its_name_begins_with_and_other_hidden_files_do_not(project):
    before = keys(project)
    for name in (".git/index", ".DS_Store", "_drafts/notes"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_bytes(b"x")
    assert keys(project) == before
    for name in (b"...And You/a.flac", b"_live/b.MP3", b"caf\xe9.wav"):  # file names need not be UTF-8
        path = project / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"RIFF")
        assert "shards" in changed(before, before := keys(project))


def test_a_user_who_is_to_be_forgotten_changes_what_hangs_on_the_log(project):
    before = keys(project)
    forget_user(str(project / "work"), "ana")
    assert changed(before, keys(project)) == {"pairs", *FROM_STAGE2}


def test_a_workspace_and_a_config_beside_the_audio_are_no_audio(project):
    before = keys(project)
    (project / "work").mkdir()
    (project / "work" / "model.safetensors").write_bytes(b"made by the run")
    os.utime(project / "htcl.yaml", (1, 1))
    assert keys(project) == before
    (project / "workout.wav").write_bytes(b"a song whose name starts like the workspace")
    assert "shards" in changed(before, keys(project))


def test_what_arrives_during_a_run_belongs_to_the_next(project):
    taken = raw_inputs(load_config(project / "htcl.yaml"))
    before = keys(project, inputs=taken)
    (project / "log" / "2025-01-02.jsonl").write_text("{}\n")
    (project / "audio" / "b.wav").write_bytes(b"RIFF")
    assert keys(project, inputs=taken) == before
    assert changed(before, keys(project)) == ALL - {"catalog"}


def test_the_text_baseline_belongs_to_the_evaluation(project, champion):
    before = keys(project, champion=champion)
    after = keys(project, "model.text_pooling=mean", champion=champion)
    assert changed(before, after) == {"evaluation", "report"}


def test_reasons_name_the_change(project):
    for step in steps(project).values():
        assert (step.published, step.reason) == (False, "never run here")
        publish(project, step)
    assert {step.reason for step in steps(project).values()} == {"published"}
    after = steps(project, "pairs.top_k=3", "pairs.window_days=30")
    assert after["catalog"].reason == "published"
    assert after["pairs"].reason == "pairs.top_k: 50 -> 3; pairs.window_days: None -> 30"
    assert after["stage2"].reason == "pairs changed"
    assert after["index"].reason == "embeddings changed"


def test_a_raised_step_version_is_the_reason(project, monkeypatch):
    publish(project, steps(project)["catalog"])
    monkeypatch.setitem(plan.__globals__["STEP_VERSIONS"], "catalog", 2)
    assert steps(project)["catalog"].reason == "step version 1 -> 2"


@pytest.fixture
def champion(project):
    """A model that was fine-tuned twice, over the stage 1 of key `stage-1`."""
    store = ArtifactStore(str(project / "work"))
    first = Recipe("stage2", 1, {}, {"stage1": "stage-1"})
    second = Recipe("stage2", 1, {}, {"champion": first.key})
    third = Recipe("stage2", 1, {}, {"champion": second.key})
    for recipe in (first, second, third):
        with store.create(recipe):
            pass
    return third.key


def test_a_fine_tune_goes_on_from_the_champion_over_its_stage_1(project, champion):
    made = steps(project, champion=champion)
    assert "stage1" not in made
    assert made["stage2"].recipe.inputs["champion"] == champion
    assert "stage1" not in made["stage2"].recipe.inputs
    assert made["stage2"].recipe.section["stage2"]["epochs"] == 2
    assert made["embeddings"].recipe.inputs["stage1"] == "stage-1"
    assert made["embeddings"].recipe.inputs["stage2"] == made["stage2"].key
    assert changed(keys(project, champion=champion), keys(project, "nightly.epochs=3", champion=champion)) == (
        FROM_STAGE2
    )


def test_without_a_fine_tune_the_champion_itself_embeds(project, champion):
    made = steps(project, champion=champion, fine_tune=False)
    assert not {"stage1", "stage2"} & set(made)
    assert made["embeddings"].recipe.inputs["stage1"] == "stage-1"
    assert made["embeddings"].recipe.inputs["stage2"] == champion


def test_an_unknown_champion_and_a_missing_input_are_one_sentence(project):
    with pytest.raises(HTCLError, match="stage2 nothing is not published"):
        steps(project, champion="nothing")
    (project / "catalog.jsonl").unlink()
    with pytest.raises(HTCLError, match=r"catalog\.jsonl does not exist; check the path"):
        steps(project)
