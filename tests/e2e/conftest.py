import subprocess

import pytest

from support import BINARY, Server, configuration, sandbox, unique


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"there is no {BINARY}: `make build` makes it, TURNPIKE_BIN names another", returncode=2)


@pytest.fixture(scope="session")
def general_config():
    """Text at once, slowly, one at a time, and with faults: what most tests need."""
    return configuration(
        providers={
            "quick": sandbox(),
            "slow": sandbox("30s"),
            "single": sandbox("30ms", concurrency=1),
            "brief": sandbox("150ms", concurrency=1),
            "broken": sandbox(faults={"transient": "100%"}),
            "refusing": sandbox(faults={"invalid_input": "100%"}),
        },
        models={
            "writer": ("text", "quick"),
            "sleeper": ("text", "slow"),
            "hermit": ("text", "single"),
            "clerk": ("text", "brief"),
            "wreck": ("text", "broken"),
            "critic": ("text", "refusing"),
        },
        plans={
            "shallow": {"priority_class": "low", "limits": {"concurrent_jobs": 1, "queue_depth": 2}},
            "hasty": {"priority_class": "low", "limits": {"concurrent_jobs": 1}, "expire_after": "1s"},
            "mute": {"priority_class": "low", "tasks": []},
        },
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory, general_config):
    with Server(tmp_path_factory.mktemp("server"), general_config) as running:
        yield running


@pytest.fixture
def user(server):
    """A client that acts for a user of its own, of the default plan."""
    client = server.client(account=unique())
    yield client
    client.close()


@pytest.fixture
def admin(server):
    client = server.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate of localhost, as files."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out",
                    certificate], check=True, capture_output=True)
    return key, certificate
