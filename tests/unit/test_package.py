"""What `import htcl` offers, and what it costs."""

import subprocess
import sys

import pytest

import htcl


def test_importing_costs_neither_torch_nor_spark():
    program = "import sys, htcl; dir(htcl); sys.exit('torch' in sys.modules or 'pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_everything_that_is_offered_is_there():
    for name in htcl.__all__:
        assert getattr(htcl, name) is not None
        assert name in dir(htcl)


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it offers Found, HTCLModel"):
        _ = htcl.nothing
