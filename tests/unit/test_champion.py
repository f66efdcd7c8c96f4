import pytest

from htcl.champion import read_champion, require_champion, switch_champion
from htcl.errors import HTCLError

KEYS = {name: f"{name}-1" for name in ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")}


def test_nothing_is_published_at_first(tmp_path):
    assert read_champion(str(tmp_path)) is None
    with pytest.raises(HTCLError, match=r"nothing is published in .* yet; run `htcl run CONFIG`"):
        require_champion(str(tmp_path))


def test_a_switch_changes_the_whole_set(tmp_path):
    switched = switch_champion(str(tmp_path), KEYS)
    assert read_champion(str(tmp_path)) == require_champion(str(tmp_path)) == switched
    assert {name: getattr(switched, name) for name in KEYS} == KEYS
    switch_champion(str(tmp_path), {**KEYS, "index": "index-2"})
    assert require_champion(str(tmp_path)).index == "index-2"
    assert [f.name for f in (tmp_path / "published").iterdir()] == ["champion.json"]


def test_an_incomplete_set_is_not_switched_to(tmp_path):
    with pytest.raises(TypeError):
        switch_champion(str(tmp_path), {"index": "index-2"})
    assert read_champion(str(tmp_path)) is None


@pytest.mark.parametrize("content", ["{", '{"index": "x"}', "[]"])
def test_a_damaged_pointer_is_one_sentence(tmp_path, content):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "champion.json").write_text(content)
    with pytest.raises(HTCLError, match=r"champion\.json is damaged; delete it"):
        read_champion(str(tmp_path))
