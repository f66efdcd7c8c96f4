import logging

import pytest

from htcl import logs
from htcl.logs import LogfmtFormatter, LogLine, Progress, get_logger, log, log_error, parse_line


@pytest.fixture
def records():
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger = logging.getLogger("htcl.test")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield kept
    logger.removeHandler(handler)


def line(records):
    return LogfmtFormatter().format(records[-1]).partition(" ")[2]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a\nb", '"a b"'),
        ("a\r\nb\tc", '"a b\tc"'),
        ('say "hi"', "\"say 'hi'\""),
        ('"x"', "\"'x'\""),
        ("a=b", '"a=b"'),
        (0.123456789, "0.12346"),
        (float("nan"), "nan"),
        (7, "7"),
        (None, "None"),
    ],
)
def test_a_field_is_one_logfmt_value(records, value, written):
    log(get_logger("test"), "saved", it=value)
    assert line(records) == f"level=info step=test msg=saved it={written}"


def test_other_handlers_see_event_and_fields_in_the_message(records):
    log(get_logger("test"), "shards published", tracks=3)
    assert records[-1].getMessage() == "shards published tracks=3"
    assert line(records) == 'level=info step=test msg="shards published" tracks=3'


def test_plain_records_and_exceptions_are_written_too(records):
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("test").exception("lost %s", "it")
    first, *rest = line(records).splitlines()
    assert first == 'level=error step=test msg="lost it"'
    assert rest[-1] == "ValueError: broken"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("saved", {}),
        ("3 samples do not fill one batch; lower stage1.global_batch_size (now 4)", {"rank": 1}),
        ("level=error in the middle", {"what": "a b=c", "none": "", "loss": 0.123456789}),
        ("", {}),
    ],
)
def test_what_is_logged_can_be_read_again(records, message, fields):
    log_error(get_logger("test"), message, **fields)
    line = parse_line(LogfmtFormatter().format(records[-1]))
    read = {name: f"{value:.5g}" if isinstance(value, float) else str(value) for name, value in fields.items()}
    assert line == LogLine("error", "test", message, read)
    assert line.text == records[-1].getMessage()


def test_quotes_and_line_ends_of_a_message_are_all_that_is_lost(records):
    get_logger("test").error('no "such"\ntable')
    assert parse_line(LogfmtFormatter().format(records[-1])) == LogLine("error", "test", "no 'such' table", {})


@pytest.mark.parametrize(
    "line", ["", "a line", "level=error msg=x", "ts=1 level=error", "[INFO] ts=1 level=info msg=x"]
)
def test_other_lines_are_no_log_lines(line):
    assert parse_line(line) is None


def test_progress_gives_rate_and_time_left_at_most_every_few_seconds(records, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    progress = Progress(get_logger("test"), "songs", total=100, every=5)
    for seconds, done in ((1, 0), (5, 0), (6, 10), (9.9, 49), (10, 50), (12, 60), (20, 100)):
        now[0] = 100.0 + seconds
        progress.update(done, loss=0.5)
    assert [record.fields for record in records] == [
        {"what": "songs", "done": 0, "total": 100, "loss": 0.5},
        {"what": "songs", "done": 50, "total": 100, "per_second": 5.0, "eta_seconds": 10.0, "loss": 0.5},
        {"what": "songs", "done": 100, "total": 100, "per_second": 5.0, "eta_seconds": 0.0, "loss": 0.5},
    ]


def test_progress_of_nothing_does_not_divide_by_zero(records):
    Progress(get_logger("test"), "songs", total=0).update(0)
    assert records[-1].fields["done"] == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("API request to http://ann:s3cret@host:5000/api failed", "API request to http://ann:***@host:5000/api failed"),
        ("postgresql+asyncpg://prefect:p%40ss@db/prefect", "postgresql+asyncpg://prefect:***@db/prefect"),
        ("s3://bucket/a:b@c and http://host:5000/x@y", "s3://bucket/a:b@c and http://host:5000/x@y"),
    ],
)
def test_no_line_has_a_password(records, text, shown):
    log(get_logger("test"), text)
    assert records[-1].event == shown
