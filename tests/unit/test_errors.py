import errno

import pytest

from htcl.errors import HTCLError, PassingError, sentence_of


def test_an_error_that_can_be_mended_stays_as_it_is():
    error = HTCLError("set it")
    assert sentence_of(error) is error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/work/part-1"),
            "/work/part-1: No space left on device; make",
        ),
        (RuntimeError('IoError(Os { code: 28, message: "No space left on device" })'), "the workspace or the folder"),
        (OSError(errno.EROFS, "Read-only file system", "/work/x"), "/work/x: Read-only file system; make it writable"),
    ],
)
def test_a_disk_that_takes_nothing_is_a_sentence_and_may_be_mended_meanwhile(error, words):
    told = sentence_of(error)
    assert isinstance(told, PassingError) and words in str(told)


def test_a_fault_of_ours_is_no_sentence():
    assert sentence_of(KeyError("x")) is None
