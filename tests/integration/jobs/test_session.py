"""A Spark job's session and how its failures end, under a real spark-submit."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from session import executor_error

from htcl.errors import HTCLError, PassingError
from htcl.logs import parse_line

BIN, JOBS = Path(sys.executable).parent, Path(__file__).resolve().parents[3] / "jobs"
FAST = ["--master", "local[1]", "--conf", "spark.ui.enabled=false", "--driver-java-options", "-XX:TieredStopAtLevel=1"]
JOB = """
from session import job_parser, run_job, spark_session

def fail(batches):
    from htcl.errors import HTCLError
    raise HTCLError("shard htcl-1.tar is damaged; delete it and run again")
    yield from batches

def main(config, arguments):
    with spark_session(config, "test") as spark:
        print("partitions", spark.conf.get("spark.sql.shuffle.partitions"))
        print("records", spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch"))
        print("zone", spark.conf.get("spark.sql.session.timeZone"))
        spark.range(4).mapInArrow(fail, "id long").collect()

run_job(job_parser("test"), main)
"""


def submit(folder, *options):
    (folder / "job.py").write_text(JOB)
    config = {"workspace": "w", "catalog": {"path": "c"}, "interactions": {"path": "l", "timezone": "Asia/Tokyo"}}
    (folder / "htcl.yaml").write_text(yaml.safe_dump(config))
    return subprocess.run(
        [BIN / "spark-submit", *FAST, *options, folder / "job.py", "--config", folder / "htcl.yaml"],
        env={
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(JOBS),
            "PYSPARK_PYTHON": sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_error_of_an_executor_ends_in_its_sentence_and_what_spark_submit_sets_stays(tmp_path):
    done = submit(tmp_path, "--conf", "spark.sql.shuffle.partitions=5")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[:3] == ["partitions 5", "records 20000", "zone Asia/Tokyo"]
    last = parse_line(lines[-1])
    assert last and (last.level, last.message) == ("error", "shard htcl-1.tar is damaged; delete it and run again")
    assert "Traceback" not in done.stdout


def test_other_errors_hold_no_sentence():
    assert executor_error("Job aborted due to stage failure: ValueError: 3") is None
    for kind in (HTCLError, PassingError):
        found = executor_error(f"…\nhtcl.errors.{kind.__name__}: no\n\tat org.apache.spark…")
        assert (type(found), str(found)) == (kind, "no")


def test_of_several_errors_the_last_is_what_was_raised():
    cause = "htcl.errors.PassingError: away\n\nThe above exception was the direct cause of …"
    found = executor_error(f"{cause}\n\nhtcl.errors.HTCLError: mend it")
    assert (type(found), str(found)) == (HTCLError, "mend it")
