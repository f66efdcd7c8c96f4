"""An S3 that runs on this machine, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import s3fs

# A process of its own: deltalake holds Python's lock while it waits for an answer.
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SECRET = "a-secret-that-no-log-line-may-hold"


@contextlib.contextmanager
def object_storage(*buckets: str) -> Iterator[dict[str, str]]:
    """Serve some empty buckets; gives the environment variables that lead to them.

    The server ends with the block, or with this process, whose end closes its standard input.
    """
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        files = s3fs.S3FileSystem(endpoint_url=endpoint, key="test", secret=SECRET, skip_instance_cache=True)
        for bucket in buckets:
            files.mkdir(bucket)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        assert server.stdin
        server.stdin.close()
        s3fs.S3FileSystem.clear_instance_cache()
