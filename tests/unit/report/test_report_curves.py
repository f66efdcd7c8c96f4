"""The losses of a stage, read from the log beside its model."""

import json

import pytest

from htcl.report.charts import line_chart
from htcl.report.curves import read_curve
from htcl.training import METRICS_FILE

STEPS = [
    {"global_step": 10, "loss": 3.0, "audio_text": 1.0, "audio_audio": 2.0, "tau_1": 9.0},
    {"global_step": 20, "loss": 2.0, "audio_text": 0.5, "audio_audio": 1.5, "tau_1": 8.0},
]


def test_stage2_has_each_term_and_stage1_its_loss(tmp_path):
    (tmp_path / METRICS_FILE).write_text("\n".join(map(json.dumps, STEPS)))
    both = read_curve(tmp_path, "stage2")
    assert both.steps == [10, 20]
    assert both.series == {"loss": [3.0, 2.0], "audio_text": [1.0, 0.5], "audio_audio": [2.0, 1.5]}
    assert read_curve(tmp_path, "stage1").series == {"loss": [3.0, 2.0]}


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_stage_without_a_step_has_nothing_to_draw(tmp_path, stage):
    (tmp_path / METRICS_FILE).touch()
    curve = read_curve(tmp_path, stage)
    assert curve.steps == [] and line_chart(curve) is None
