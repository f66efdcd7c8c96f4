"""Every symptom of the runbook is one that htcl has, and was produced by a test or by a fault of `make chaos`."""

import re

import pytest

from tests.chaos.faults import FAULTS

from ..integration.harness import ROOT

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ROWS = [line for line in RUNBOOK.splitlines() if line.startswith("| ") and line.count(" | ") == 3]
PRODUCED = [row.rsplit(" | ", 1)[1].removesuffix(" |") for row in ROWS if "produced by" not in row]
SAID = [said for row in ROWS for said in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
OF_THE_SYSTEM = ("No space left on device", "Read-only file system")


def source():
    """The code, with texts that go over several lines in one piece."""
    folders = (ROOT / name for name in ("htcl", "jobs", "flows"))
    text = "\n".join(path.read_text() for folder in folders for path in sorted(folder.rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def fixed_words(said):
    """What stands between the placeholders of a sentence: names in capitals, …, (…), numbers."""
    parts = re.split(r"…|\(…\)|\b[A-Z]+\b|s3://|'x'|[:;]", said)
    return [part.strip(" .,'()-") for part in parts if len(part.split()) > 1]


def test_every_symptom_says_what_produced_it():
    assert len(PRODUCED) > 30 and all(PRODUCED)


def test_every_sentence_is_one_that_the_code_says():
    code = source()
    words = [part for said in SAID for part in fixed_words(said)]
    assert len(words) > 25
    assert [part for part in words if part not in code and part not in OF_THE_SYSTEM] == []


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", " ".join(PRODUCED)))))
def test_the_tests_that_it_names_are_there(named):
    file, test = named
    (path,) = (ROOT / "tests").rglob(file)
    assert not test or f"def {test}(" in path.read_text()


def test_the_faults_that_it_names_are_there():
    assert set(re.findall(r'"([^"]+)"', " ".join(PRODUCED))) <= set(FAULTS)
