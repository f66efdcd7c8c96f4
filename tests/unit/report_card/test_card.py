"""What the card says of who wins and loses, and that it is read as it was written."""

import json

import numpy as np
import pytest

from htcl.config import EvaluationConfig
from htcl.report_card.card import CARD_FILE, make_card, read_card, write_card
from htcl.report_card.show import card_markdown, verdict_lines

COLD, TEXT = ("song_to_song", "cold", "ndcg_at_10"), ("text_to_audio", "test", "recall_at_10")
WARM = ("user_to_song", "warm", "ndcg_at_10")
CONFIG = EvaluationConfig(bootstrap_samples=200)


def values(mean, n=200):
    noise = np.random.default_rng(0).normal(0, 0.05, n)
    return {f"q{number}": float(mean + value) for number, value in enumerate(noise)}


@pytest.fixture
def card(run):
    figures = {
        **{(system, *COLD): values(mean) for system, mean in (("MFCC", 0.3), ("stage1", 0.25), ("stage2", 0.4))},
        ("stage2 without text", *COLD): values(0.5),
        **{(system, *WARM): values(mean) for system, mean in (("ALS", 0.5), ("stage2", 0.2))},
        **{(system, *TEXT): values(mean) for system, mean in (("stage1", 0.35), ("stage2", 0.36))},
    }
    return make_card("world", [run("w", figures)], CONFIG)


def test_the_best_competitor_is_no_part_of_our_own_recipe(card):
    best = {(v.headline, v.system) for v in card[0].verdicts if v.best}
    assert best == {
        ("cold songs, song to song", "MFCC"),
        ("known songs for listeners", "ALS"),
        ("text to audio", "stage1"),
    }


def test_the_lines_say_where_it_wins_and_who_beats_it(card):
    lines = verdict_lines(card[0])
    assert lines[0].startswith("cold songs, song to song: stage2 beats MFCC, the best competitor (+0.100 [")
    assert lines[0].endswith("; beaten by stage2 without text")
    assert lines[1].startswith("known songs for listeners: stage2 loses to ALS")
    assert lines[1].endswith("; beaten by ALS")


def test_what_no_query_tells_apart_is_not_called_level(run):
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    other = {name: value + shift for (name, value), shift in zip(values(0.4).items(), noise, strict=True)}
    figures = {("stage2", *COLD): values(0.4), ("MFCC", *COLD): other}
    line = verdict_lines(make_card("world", [run("w", figures)], CONFIG)[0])[0]
    assert line.startswith("cold songs, song to song: stage2 cannot be told from MFCC, the best competitor (")


def test_few_queries_make_no_winner(run):
    figures = {("stage2", *COLD): values(0.4, 9), ("MFCC", *COLD): values(0.6, 9), ("random", *COLD): values(0.5, 9)}
    line = verdict_lines(make_card("world", [run("w", figures)], CONFIG)[0])[0]
    assert line == (
        "cold songs, song to song: stage2 -0.200 against MFCC, the best competitor; 9 queries are too few to tell"
    )


def test_several_runs_say_in_how_many_of_them_it_is_ahead(run):
    figures = [
        {("stage2", *COLD): values(0.4), ("MFCC", *COLD): values(0.3)},
        {("stage2", *COLD): values(0.2), ("MFCC", *COLD): values(0.25)},
    ]
    runs = [run(str(world), each) for world, each in enumerate(figures)]
    card = make_card("worlds", runs, CONFIG)[0]
    assert card.verdicts[0].runs == pytest.approx([0.1, -0.05])
    assert verdict_lines(card)[0].endswith(", n=400, ahead in 1 of 2 runs)")


@pytest.mark.parametrize(
    ("stage2", "word"), [(0.40, "is kept"), (0.3465, "is kept within the interval"), (0.30, "is not kept")]
)
def test_what_is_kept_of_the_first_stage_is_said_by_its_interval(run, stage2, word):
    noise = np.random.default_rng(1).normal(0, 0.05, 200)
    other = {name: value + shift for (name, value), shift in zip(values(stage2).items(), noise, strict=True)}
    figures = {("stage1", *TEXT): values(0.35), ("stage2", *TEXT): other}
    lines = verdict_lines(make_card("world", [run("w", figures)], CONFIG)[0])
    assert f"recall_at_10 {word}: " in lines[-1]


def test_what_is_kept_of_the_first_stage(card):
    assert card[0].kept.value == pytest.approx(0.36 - 0.99 * 0.35, abs=0.01)
    assert "99 % of stage1's text-to-audio recall_at_10 is kept" in card_markdown(card[0])


def test_competitors_stand_before_our_models_and_what_has_no_figure_has_a_dash(card):
    rows = card_markdown(card[0]).splitlines()
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:7]] == [
        "MFCC",
        "ALS",
        "stage1",
        "stage2",
        "stage2 without text",
    ]
    assert rows[3].split(" | ")[1] == "–"


def test_a_card_is_read_as_it_was_written(card, tmp_path):
    write_card(*card, tmp_path)
    assert read_card(tmp_path) == card[0]
    assert json.loads((tmp_path / CARD_FILE).read_text())["name"] == "world"


def test_records_have_the_common_shape(card, tmp_path):
    write_card(*card, tmp_path)
    record = json.loads((tmp_path / "records" / "stage2_without_text" / "song_to_song.json").read_text())
    (scores,) = record["scores"]["cold"]
    assert record["task_name"] == "song_to_song" and scores["hf_subset"] == "default"
    assert scores["main_score"] == scores["ndcg_at_10"] == pytest.approx(0.5, abs=0.02)
    low, high = scores["ndcg_at_10_interval"]
    assert low < scores["ndcg_at_10"] < high and scores["ndcg_at_10_n"] == 200
