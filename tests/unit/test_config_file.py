import pytest

from htcl.config_file import load_config, preset_names, save_config
from htcl.errors import HTCLError

BASE = "workspace: work\ncatalog: {path: catalog.jsonl}\ninteractions: {path: log}\n"


def write(folder, text):
    path = folder / "htcl.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder, text, overrides=None):
    with pytest.raises(HTCLError) as caught:
        load_config(write(folder, text), overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("pair: {top_k: 3}", "'pair'", "'pairs'"),
        ("pairs: {topk: 3}", "'pairs.topk'", "'top_k'"),
        ("presets: demo", "'presets'", "'preset'"),
        ("stage2: {epoch: 1}", "'stage2.epoch'", "'epochs'"),
    ],
)
def test_a_typo_names_the_key_and_the_nearest_valid_one(tmp_path, text, key, nearest):
    assert f"unknown key {key}; did you mean {nearest}?" in refusal(tmp_path, BASE + text)


def test_a_typo_below_an_event_type_names_the_rules_key(tmp_path):
    text = BASE.replace("path: log", "path: log, positive: {like: {min_duration: 0.5}}")
    assert "did you mean 'min_duration_ratio'?" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no settings"),
        ("- a", "holds no settings"),
        ("a: [b", "is not valid YAML"),
        ("workspace: work", "'catalog' is missing"),
        (BASE + "pairs: {top_k: 0}", "'pairs.top_k': Input should be greater than 0 (got 0)"),
        (BASE + "pairs: {score: cosin}", "'pairs.score' cannot be 'cosin'; did you mean 'cosine'?"),
        (BASE + "pairs: {score: dot}", "'pairs.score' cannot be 'dot'; valid here: count, cosine, npmi, bm25"),
        (BASE + "pairs: {score: 3}", "'pairs.score': Input should be 'count', 'cosine', 'npmi' or 'bm25' (got 3)"),
        (BASE + "training: {zero_stage: one}", "'training.zero_stage': Input should be 0, 1 or 2 (got 'one')"),
        (BASE + "pairs:", "'pairs' needs settings below it"),
        (BASE + "preset: dem", "no preset 'dem'; did you mean 'demo'?"),
        (
            BASE + "split: {test_share: 0.6, validation_share: 0.4}",
            "split: test_share = 0.6 and validation_share = 0.4 leave",
        ),
        (BASE + "training: {processes: 3}", ": stage1.global_batch_size = 32 is not a multiple of"),
        (BASE + "pairs: {top_k: 3}\npairs: {min_users: 3}", "'pairs' stands twice"),
    ],
)
def test_each_kind_of_error_is_one_sentence(tmp_path, text, words):
    assert words in refusal(tmp_path, text)


def test_a_file_that_is_missing_or_no_text_is_one_sentence(tmp_path):
    with pytest.raises(HTCLError, match="No such file or directory; check the path"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: Café".encode("latin-1"))
    with pytest.raises(HTCLError, match="is not UTF-8 text"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_the_file_lies_over_them(tmp_path, name):
    config = load_config(write(tmp_path, f"{BASE}preset: {name}\npairs: {{top_k: 7}}"))
    assert config.pairs.top_k == 7
    assert config.pairs.min_users == {"demo": 3}.get(name, 5)


def test_labels_of_a_file_replace_those_of_the_preset(tmp_path):
    text = BASE + "preset: demo\nreport_card: {labels: {language: {column: language}}}\n"
    assert list(load_config(write(tmp_path, text)).report_card.labels) == ["language"]


def test_positive_event_types_of_a_file_replace_those_of_the_preset(tmp_path):
    text = BASE.replace("path: log", "path: log, positive: {heart: {}}")
    config = load_config(write(tmp_path, text + "preset: demo"))
    assert list(config.interactions.positive) == ["heart"]


def test_overrides_win_over_the_file_in_their_order(tmp_path):
    path = write(tmp_path, BASE + "pairs: {top_k: 7, min_users: 2}")
    config = load_config(path, ["pairs.top_k=8", "pairs.top_k=9", "model.conv_filters=[8, 8]"])
    assert (config.pairs.top_k, config.pairs.min_users) == (9, 2)
    assert config.model.conv_filters == [8, 8]


@pytest.mark.parametrize("preset", ["demo", "base"])
def test_an_override_of_one_event_type_keeps_the_others(tmp_path, preset):
    path = write(tmp_path, f"{BASE}preset: {preset}")
    before = load_config(path).interactions.positive
    after = load_config(path, ["interactions.positive.play.min_duration_ratio=0.25"]).interactions.positive
    assert set(after) == set(before)
    assert after["play"].min_duration_ratio == 0.25
    assert after["like"] == before["like"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pairs.top_k", "is not of the form section.key=value"),
        ("=3", "is not of the form section.key=value"),
        ("pairs.top_k=[1", "is not a YAML value"),
        ("pairs.topk=1", "did you mean 'top_k'?"),
        ("preset=demo", "preset cannot be overridden"),
    ],
)
def test_an_override_that_cannot_be_read_is_one_sentence(tmp_path, override, words):
    assert words in refusal(tmp_path, BASE, [override])


def test_relative_paths_start_at_the_file_and_uris_stay(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = "workspace: s3://bucket/work\ncatalog: {path: ../catalog.jsonl}\ninteractions: {path: /log}\n"
    (tmp_path / "project").mkdir()
    config = load_config(write(tmp_path / "project", text))
    assert config.workspace == "s3://bucket/work"
    assert config.catalog.path == str(tmp_path / "catalog.jsonl")
    assert config.catalog.audio_root == ""
    assert config.interactions.path == "/log"


def test_file_uris_are_paths(tmp_path):
    text = f"workspace: file://{tmp_path}/w\ncatalog: {{path: 'file:///a b/c.csv'}}\ninteractions: {{path: i}}\n"
    config = load_config(write(tmp_path, text), ["interactions.path=file:///log/"])
    assert (config.workspace, config.catalog.path) == (f"{tmp_path}/w", "/a b/c.csv")
    assert config.interactions.path == "/log"


def test_saving_and_loading_gives_the_same_configuration(tmp_path):
    config = load_config(write(tmp_path, BASE + "preset: demo\nname: Łódź ♪"))
    saved = save_config(config, tmp_path / "elsewhere" / "config.yaml")
    assert load_config(saved) == config
    assert [f.name for f in saved.parent.iterdir()] == ["config.yaml"]


def test_a_text_encoder_spelled_as_a_path_starts_at_the_config_file(tmp_path):
    text = "workspace: w\ncatalog: {path: c}\ninteractions: {path: i}\nmodel: {text_encoder: ./bert}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert load_config(tmp_path / "a.yaml").model.text_encoder == str(tmp_path / "bert")
    (tmp_path / "b.yaml").write_text(text.replace("./bert", "bert-base"))
    assert load_config(tmp_path / "b.yaml").model.text_encoder == "bert-base"


def test_presets_may_be_files_and_lie_over_each_other(tmp_path):
    (tmp_path / "big.yaml").write_text("training: {processes: 8, zero_stage: 1}\npairs: {top_k: 7}\n")
    path = write(tmp_path, f"preset: [demo, big.yaml]\n{BASE}training: {{zero_stage: 2}}\n")
    config = load_config(path)
    assert (config.training.processes, config.training.zero_stage, config.pairs.top_k) == (8, 2, 7)
    assert config.pairs.min_users == 3  # of the demo
    with pytest.raises(HTCLError, match=r"cannot read the config file .*no\.yaml"):
        load_config(write(tmp_path, f"preset: [demo, no.yaml]\n{BASE}"))


@pytest.mark.parametrize(
    ("settings", "dial"),
    [
        ("{train_batch_size: 8}", "global_batch_size"),
        ("{zero_optimization: {stage: 3}}", "training.zero_stage"),
        ("{bf16: {enabled: true}}", "training.precision"),
    ],
)
def test_a_setting_of_deepspeed_that_has_a_dial_is_refused(tmp_path, settings, dial):
    with pytest.raises(HTCLError, match=dial):
        load_config(write(tmp_path, f"{BASE}training: {{deepspeed: {settings}}}\n"))
