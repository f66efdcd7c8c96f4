from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl import storage
from htcl.artifacts import MANIFEST
from htcl.champion import (
    past_champions,
    read_champion,
    require_champion,
    rollback_champion,
    switch_champion,
)
from htcl.errors import HTCLError, OvertakenError, PassingError


def keys(name):
    return {kind: f"{kind}-{name}" for kind in ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")}


@pytest.fixture
def workspace(tmp_path):
    return str(tmp_path)


def manifest(workspace, kind, key):
    return Path(workspace) / "artifacts" / kind / key / MANIFEST


def publish(workspace, *names):
    for name in names:
        for kind, key in keys(name).items():
            manifest(workspace, kind, key).parent.mkdir(parents=True, exist_ok=True)
            manifest(workspace, kind, key).touch()
        switch_champion(workspace, keys(name), f"why {name}", read_champion(workspace))


def test_nothing_is_published_at_first(workspace):
    assert read_champion(workspace) is None
    assert past_champions(workspace) == []
    with pytest.raises(HTCLError, match=r"nothing is published in .* yet; run `htcl run CONFIG`"):
        require_champion(workspace)


def test_a_switch_changes_the_whole_set(workspace):
    switched = switch_champion(workspace, keys("a"), "the first", None)
    assert read_champion(workspace) == require_champion(workspace) == switched
    assert (switched.keys, switched.why, switched.number, switched.withdrawn) == (keys("a"), "the first", 1, ())
    publish(workspace, "b")
    assert require_champion(workspace).keys == keys("b")
    assert [entry.keys for entry in past_champions(workspace)] == [keys("b"), keys("a")]


def test_an_incomplete_set_is_not_switched_to(workspace):
    with pytest.raises((TypeError, KeyError)):
        switch_champion(workspace, {"index": "index-2"}, "", None)
    assert read_champion(workspace) is None


def test_who_decided_on_an_older_champion_is_too_late(workspace):
    publish(workspace, "a")
    base = read_champion(workspace)
    publish(workspace, "b")
    with pytest.raises(OvertakenError, match="somebody switched the champion"):
        switch_champion(workspace, keys("c"), "", base)
    assert require_champion(workspace).keys == keys("b")


def test_of_several_at_once_one_switches(workspace):
    publish(workspace, "a")
    base = read_champion(workspace)

    def switch(name):
        try:
            return switch_champion(workspace, keys(name), "", base)
        except OvertakenError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [champion for champion in pool.map(switch, "bcdefghi") if champion]
    assert won == [read_champion(workspace)]


@pytest.mark.parametrize("content", ["{", '{"index": "x"}', "[]"])
def test_a_damaged_entry_is_one_sentence_and_its_way_out_works(workspace, tmp_path, content):
    publish(workspace, "a", "b")
    newest = tmp_path / "published" / "champion" / "00000002.json"
    newest.write_text(content)
    with pytest.raises(HTCLError, match=r"00000002\.json is damaged; delete it, and the set before it counts again"):
        read_champion(workspace)
    newest.unlink()
    assert require_champion(workspace).keys == keys("a")


def test_a_rollback_goes_back_one_set_and_withdraws_its_model(workspace):
    publish(workspace, "a", "b", "c")
    back = rollback_champion(workspace)
    assert (back.keys, back.withdrawn) == (keys("b"), ("stage2-c",))
    assert back == read_champion(workspace)
    further = rollback_champion(workspace)
    assert (further.keys, set(further.withdrawn)) == (keys("a"), {"stage2-b", "stage2-c"})
    with pytest.raises(HTCLError, match="there is nothing to go back to"):
        rollback_champion(workspace)


def test_a_rollback_passes_over_sets_that_garbage_collection_has_taken(workspace):
    publish(workspace, "a", "b", "c")
    manifest(workspace, "index", "index-b").unlink()
    assert rollback_champion(workspace).keys == keys("a")


def test_a_damaged_older_entry_hides_itself_only(workspace, tmp_path, caplog):
    publish(workspace, "a", "b", "c")
    (tmp_path / "published" / "champion" / "00000002.json").write_text("{")
    assert [entry.keys for entry in past_champions(workspace)] == [keys("c"), keys("a")]
    assert "00000002.json is damaged" in caplog.text
    assert rollback_champion(workspace).keys == keys("a")


def test_an_entry_that_cannot_be_reached_is_not_taken_for_a_damaged_one(workspace, monkeypatch):
    publish(workspace, "a", "b")
    read = storage.read_bytes

    def fail(uri):
        if uri.endswith("00000001.json"):
            raise PassingError("no answer")
        return read(uri)

    monkeypatch.setattr(storage, "read_bytes", fail)
    with pytest.raises(PassingError):
        past_champions(workspace)


def test_an_answer_that_was_lost_is_no_switch_of_somebody_else(workspace, monkeypatch):
    create = storage.create_bytes

    def sent_twice(uri, data):
        create(uri, data)
        return create(uri, data)

    monkeypatch.setattr(storage, "create_bytes", sent_twice)
    publish(workspace, "a")
    assert require_champion(workspace).keys == keys("a")


def test_a_rollback_to_an_older_index_of_the_same_model_withdraws_nothing(workspace):
    publish(workspace, "a")
    switch_champion(workspace, {**keys("a"), "index": "with-new-songs"}, "", read_champion(workspace))
    assert rollback_champion(workspace).withdrawn == ()
    assert require_champion(workspace).keys == keys("a")


def test_what_is_published_after_a_rollback_is_what_the_next_one_leaves(workspace):
    publish(workspace, "a", "b")
    rollback_champion(workspace)
    publish(workspace, "c")
    back = rollback_champion(workspace)
    assert (back.keys, back.withdrawn) == (keys("a"), ("stage2-b", "stage2-c"))


def test_a_withdrawn_model_that_is_published_again_is_not_withdrawn_any_more(workspace):
    publish(workspace, "a", "b")
    rollback_champion(workspace)
    publish(workspace, "b")
    assert require_champion(workspace).withdrawn == ()


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "c", "rollback"]), min_size=1, max_size=12))
def test_rollbacks_undo_switches_like_a_stack(tmp_path_factory, acts):
    workspace, stack = str(tmp_path_factory.mktemp("w")), []
    for act in acts:
        if act != "rollback":
            publish(workspace, act)
            stack.append(act)
            continue
        # A set that was published twice in a row is one.
        now = stack[-1] if stack else None
        below = [place for place, name in enumerate(stack) if name != now]
        if not below:
            with pytest.raises(HTCLError):
                rollback_champion(workspace)
            continue
        del stack[below[-1] + 1 :]
        assert rollback_champion(workspace).keys == keys(stack[-1])
    champion = read_champion(workspace)
    assert (champion.keys if champion else None) == (keys(stack[-1]) if stack else None)
