"""A server on this machine that speaks S3."""

import socket
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture
def server(monkeypatch):
    """Return a running server with the bucket "results"; it may be stopped."""
    import s3fs

    host = "127.0.0.1"
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    running = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
    running.start()
    # It keeps what it has in the process, not in the server.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("results")
    yield running
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()
