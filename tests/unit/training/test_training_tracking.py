"""The figures of rank 0 are in TensorBoard's files and in an MLflow run; a tracker that fails stops nothing."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from htcl.artifacts import Recipe
from htcl.mlflow_client import QUIET, SERVER_VARIABLE
from htcl.plan import Step
from htcl.training import tracking
from htcl.training.tracking import Tracker

SECTION = {"training": {"precision": "fp32"}, "stage1": {"epochs": 3, "long": "x" * 600, "deep": {"er": [1, 2]}}}
STEP = Step("stage1", Recipe("stage1", 1, SECTION, {"catalog": "0123"}), False, "")


@pytest.fixture(autouse=True)
def rank(monkeypatch):
    """Rank 0 without a server, unless a test says otherwise."""
    rank = [0]
    monkeypatch.setattr(tracking.dist, "get_rank", lambda: rank[0])
    for name in (SERVER_VARIABLE, *QUIET):
        monkeypatch.setenv(name, "")  # so that what the tracker sets is taken back
        monkeypatch.delenv(name)
    return rank


def track(config, first, last, shift=0.0, step=STEP):
    with Tracker(config, step, first) as tracker:
        for number in range(first + 1, last + 1):
            tracker.log({"global_step": number, "total": 9, "loss": number / 2 + shift, "songs_per_second": 7})


def scalars(folder, name="loss", step=STEP):
    accumulator = EventAccumulator(str(folder / "tensorboard" / f"stage1-{step.key}"))
    accumulator.Reload()
    assert set(accumulator.Tags()["scalars"]) == {"loss", "songs_per_second"}
    return {event.step: event.value for event in accumulator.Scalars(name)}


def client_of(folder):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"file:{folder / 'mlflow'}")


def runs_of(folder):
    client = client_of(folder)
    return client.search_runs([client.get_experiment_by_name("Llibre de música").experiment_id])


def test_tensorboard_shows_the_figures_by_step(make_config, tmp_path):
    track(make_config(), 0, 3)
    folder = tmp_path / "workspace" / "tracking"
    assert scalars(folder) == {1: 0.5, 2: 1.0, 3: 1.5}
    assert scalars(folder, "songs_per_second") == {1: 7, 2: 7, 3: 7}


def test_a_resumed_run_hides_what_the_broken_one_showed_beyond_its_checkpoint(make_config, tmp_path):
    track(make_config(), 0, 6)
    track(make_config(), 3, 5, shift=100.0)
    assert scalars(tmp_path / "workspace" / "tracking") == {1: 0.5, 2: 1.0, 3: 1.5, 4: 102.0, 5: 102.5}


def test_mlflow_shows_settings_and_figures_of_a_finished_run(make_config, tmp_path):
    track(make_config(), 0, 3)
    folder = tmp_path / "workspace" / "tracking"
    (run,) = runs_of(folder)
    assert run.info.status == "FINISHED" and run.info.run_name == f"stage1-{STEP.key}"
    assert run.data.params == {
        "training.precision": "fp32",
        "stage1.epochs": "3",
        "stage1.long": "x" * 500,
        "stage1.deep.er": "[1, 2]",
        "inputs.catalog": "0123",
    }
    assert run.data.metrics.keys() == {"loss", "songs_per_second"}
    history = client_of(folder).get_metric_history(run.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {1: 0.5, 2: 1.0, 3: 1.5}


def test_a_run_of_the_same_key_goes_on_in_the_same_mlflow_run(make_config, tmp_path):
    folder = tmp_path / "workspace" / "tracking"
    with pytest.raises(ZeroDivisionError), Tracker(make_config(), STEP, 0) as tracker:
        tracker.log({"global_step": 1, "total": 9, "loss": 0.5})
        raise ZeroDivisionError
    (broken,) = runs_of(folder)
    assert broken.info.status == "FAILED"
    with Tracker(make_config(), STEP, 1) as tracker:
        assert runs_of(folder)[0].info.status == "RUNNING"
        tracker.log({"global_step": 2, "total": 9, "loss": 1.0})
    (run,) = runs_of(folder)
    assert (run.info.run_id, run.info.status) == (broken.info.run_id, "FINISHED")
    history = client_of(folder).get_metric_history(run.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {1: 0.5, 2: 1.0}


def test_another_key_is_another_run(make_config, tmp_path):
    other = Step("stage1", Recipe("stage1", 1, {"training": {"precision": "bf16"}}, {}), False, "")
    track(make_config(), 0, 2)
    track(make_config(), 0, 1, step=other)
    folder = tmp_path / "workspace" / "tracking"
    assert {run.info.run_name for run in runs_of(folder)} == {f"stage1-{STEP.key}", f"stage1-{other.key}"}
    assert (scalars(folder), scalars(folder, step=other)) == ({1: 0.5, 2: 1.0}, {1: 0.5})


def test_the_folder_can_be_chosen(make_config, tmp_path):
    folder = tmp_path / "a folder"
    track(make_config(tracking_folder=str(folder)), 0, 1)
    assert scalars(folder) == {1: 0.5} and len(runs_of(folder)) == 1
    assert not (tmp_path / "workspace").exists()


def test_other_ranks_write_nothing(make_config, tmp_path, rank, logged):
    rank[0] = 1
    track(make_config(), 0, 2)
    track(make_config("memory://workspace"), 0, 2)
    assert not (tmp_path / "workspace").exists()
    assert logged == []


def test_a_server_that_fails_is_logged_once_and_tensorboard_goes_on(make_config, tmp_path, monkeypatch, logged):
    monkeypatch.setenv(SERVER_VARIABLE, "http://127.0.0.1:9")
    track(make_config(), 0, 3)
    (line,) = logged
    assert line.message.startswith("MLflow is left out from here on: ") and "refused" in line.message
    folder = tmp_path / "workspace" / "tracking"
    assert scalars(folder).keys() == {1, 2, 3}
    assert not (folder / "mlflow").exists()


def test_a_tracker_that_breaks_on_the_way_is_left_out(make_config, tmp_path, monkeypatch, logged):
    from mlflow.tracking import MlflowClient

    calls, write = [], MlflowClient.log_batch

    def break_at_2(client, run_id, metrics=(), params=()):
        calls.extend(metric.step for metric in metrics if metric.key == "loss")
        if calls[-1:] == [2]:
            raise ConnectionError("gone")
        write(client, run_id, metrics, params)

    monkeypatch.setattr(MlflowClient, "log_batch", break_at_2)
    track(make_config(), 0, 4)
    assert [line.message for line in logged] == ["MLflow is left out from here on: ConnectionError: gone"]
    assert calls == [1, 2]
    folder = tmp_path / "workspace" / "tracking"
    assert scalars(folder).keys() == {1, 2, 3, 4}
    (run,) = runs_of(folder)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 0.5)


def test_a_remote_workspace_without_a_folder_is_not_tracked_and_says_so(make_config, tmp_path, monkeypatch, logged):
    monkeypatch.chdir(tmp_path)
    track(make_config("memory://workspace"), 0, 2)
    assert list(tmp_path.iterdir()) == []
    assert [line.message for line in logged] == [
        "no files for TensorBoard: set training.tracking_folder to a local folder"
    ]


def test_a_remote_workspace_can_have_a_local_folder(make_config, tmp_path, logged):
    track(make_config("memory://workspace", tracking_folder=str(tmp_path / "t")), 0, 2)
    assert scalars(tmp_path / "t").keys() == {1, 2} and len(runs_of(tmp_path / "t")) == 1
    assert logged == []


def test_a_remote_workspace_can_have_a_server(make_config, tmp_path, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, f"file:{tmp_path / 'server' / 'mlflow'}")
    track(make_config("memory://workspace"), 0, 2)
    (run,) = runs_of(tmp_path / "server")
    assert run.data.metrics["loss"] == 1.0
