"""The server as a process: started, drained, cut off, crowded; its files, its manners on the wire."""

import http.client
import resource
import signal
import socket
import subprocess
import time

import pytest

from support import (Server, configuration, processes_with, sandbox, shell, tls_context, turnpike, unique,
                     until)

TEXT = {"prompt": "Say something."}


def plain(**more):
    return configuration(
        providers={"quick": sandbox(), "slow": sandbox("30s"), "brief": sandbox("1s")},
        models={"writer": ("text", "quick"), "sleeper": ("text", "slow"), "clerk": ("text", "brief")}, **more)


# --- Start


def test_a_second_server_on_the_same_folder_says_so_and_leaves(server, tmp_path):
    with Server(tmp_path, plain(), ready=False) as second:
        second.data = server.data
        second.launch()
        assert second.left() == 1
        assert f"process {server.process.pid}" in second.output()
    assert server.client().get("/readyz").status == 200


def test_a_port_that_is_taken_is_told(server, tmp_path):
    other = subprocess.run(
        [server.process.args[0], "serve", "--config", server.config_file, "--data", tmp_path / "data", "--listen",
         f"127.0.0.1:{server.port}"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert other.returncode != 0 and str(server.port) in other.stderr


def test_only_loopback_is_served_unless_told_otherwise(server, tmp_path):
    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        refused = turnpike("serve", "--config", server.config_file, "--data", tmp_path / "data", "--listen", listen)
        assert refused.returncode == 3 and "allow_public" in refused.stderr


def test_the_first_admin_key_is_made_and_shown_once(tmp_path):
    with Server(tmp_path, plain(), environment={"TURNPIKE_ADMIN_KEY": ""}) as server:
        key = until(lambda: server.said("admin key"), "the key").split()[-1]
        assert key.startswith("tp_") and len(key) == 46
        assert server.client(key).get("/api/admin/keys").status == 200
        server.stop()
        assert key.encode() not in b"".join(path.read_bytes() for path in server.data.rglob("*") if path.is_file())
        server.start()
        assert "admin key" not in server.output()
        assert server.client(key).get("/api/admin/keys").status == 200
        server.stop()


def test_start_says_what_serves_text(server):
    assert server.said("text: quick")


def test_wrong_usage_is_told_as_such():
    for arguments in ([], ["dance"], ["serve"], ["serve", "--nothing"], ["keys"], ["check"]):
        wrong = turnpike(*arguments)
        assert wrong.returncode == 2 and wrong.stderr, arguments
    assert turnpike("--help").returncode == 0
    shown = turnpike("version")
    assert shown.returncode == 0 and shown.stdout.startswith("turnpike 0.")


def test_the_data_folder_is_nobody_elses(server):
    assert server.data.stat().st_mode & 0o077 == 0
    assert (server.data / "control.sock").stat().st_mode & 0o077 == 0


# --- Stop


def test_sigterm_drains(tmp_path):
    with Server(tmp_path, plain(server={"drain_timeout": "3s"})) as server:
        client = server.client(account=unique())
        done = client.submit("text", TEXT, model="clerk")["id"]
        cut = client.submit("text", TEXT, model="sleeper")["id"]
        waiting = client.submit("text", TEXT, model="clerk")["id"]  # two may run at once
        client.reached(cut, "processing")
        client.reached(done, "processing", "completed")
        server.signal(signal.SIGTERM)
        refused = until(lambda: (answer := client.post("/api/jobs", {"task": "text", "input": TEXT})).status != 202
                        and answer, "the refusal of new work")
        assert refused.status == 503 and refused.error["code"] == "unavailable"
        assert int(refused.headers["Retry-After"]) >= 1
        assert client.get("/readyz").status == 503 and client.get("/healthz").status == 200
        assert client.job(waiting)["status"] == "queued", "reading goes on"
        assert server.left() == 0, server.output()
        server.configure(plain())
        server.start()
        client = server.client(account=client.account)
        finished = client.job(done)
        assert finished["status"] == "completed" and finished["attempt"] == 1, "what ran was let finish"
        client.reached(cut, "processing")
        why = client.get(f"/api/jobs/{cut}/why").json
        assert "handed_back" in [entry["what"] for entry in why["history"]]
        assert client.job(cut)["attempt"] == 1, "handed back is not an attempt"
        client.completed(waiting)
        server.kill()


def test_an_idle_server_stops_at_once(tmp_path):
    with Server(tmp_path, plain()) as server:
        idle = server.client()
        assert idle.get("/healthz").status == 200
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.left() == 0
        assert time.monotonic() - began < 5
        assert not (server.data / "address").exists()


def test_a_second_signal_ends_the_server_at_once(tmp_path):
    with Server(tmp_path, plain(server={"drain_timeout": "60s"})) as server:
        client = server.client(account=unique())
        client.reached(client.submit("text", TEXT, model="sleeper")["id"], "processing")
        server.signal(signal.SIGTERM)
        server.logged("server.draining")
        server.signal(signal.SIGTERM)
        assert server.left(5) == 1


def test_children_die_with_the_server(tmp_path):
    marker = "31536001"
    config = configuration(providers={"programs": {"kind": "exec", "concurrency": 4, "tasks": {
        "rest": shell(f"sleep {marker} & sleep {marker}; echo '{{}}'", limits={"time": "60s"})}}},
        models={"bed": ("rest", "programs")})
    with Server(tmp_path, config) as server:
        client = server.client(account=unique())
        job = client.submit("rest", {})["id"]
        until(lambda: len(processes_with(f"sleep\0{marker}")) >= 2, "the programs")
        server.kill()
        until(lambda: not processes_with(marker), "the programs' end", 5)
        server.start()
        client = server.client(account=client.account)
        client.reached(job, "processing")
        assert client.job(job)["attempt"] == 1, "what a crash cuts off is no attempt"
        until(lambda: processes_with(f"sleep\0{marker}"), "the program, run again")
        assert client.delete(f"/api/jobs/{job}").status == 200
        until(lambda: not processes_with(marker), "the programs' end", 5)
        server.stop()


def test_a_commit_that_fails_stops_the_server_and_what_was_acknowledged_is_there(tmp_path):
    limit = 6 << 20

    def bound_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with Server(tmp_path, plain(), preexec=bound_files) as server:
        client = server.client(account=unique())
        acknowledged = []
        due = int(time.time()) + 3600
        try:
            for _ in range(200):
                answer = client.post("/api/jobs", {"task": "text", "input": {"prompt": "x" * 100_000}, "run_at": due})
                assert answer.status == 202, answer
                acknowledged.append(answer.json["id"])
        except (OSError, AssertionError):
            pass
        assert server.left() == 1, server.output()
        assert "stopping" in server.output() and "commit.failed" in server.output()
        assert acknowledged and len(acknowledged) < 200
        server.preexec = None
        server.start()
        client = server.client(account=client.account)
        assert {job["id"] for job in client.jobs()} >= set(acknowledged), "nothing acknowledged is lost"
        server.stop()


# --- On the wire


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """Short times."""
    config = plain(server={"read_timeout": "1s", "idle_timeout": "1s"})
    with Server(tmp_path_factory.mktemp("strict"), config) as running:
        yield running


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=15)


def read_all(connection):
    got = b""
    while part := connection.recv(65536):
        got += part
    return got


def test_a_slow_sender_is_cut(strict):
    began = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") or answer == b""
    assert 0.5 < time.monotonic() - began < 10
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert read_all(connection)[:13] in (b"HTTP/1.1 408 ", b"")


def test_a_dripping_sender_is_cut(strict):
    began = time.monotonic()
    with connect(strict) as connection:
        connection.settimeout(0.2)
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Drip: ")
            while time.monotonic() - began < 15:
                connection.sendall(b"y")
                try:
                    if connection.recv(65536) is not None:
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
    assert time.monotonic() - began < 10, "each byte must not buy it more time"


def test_an_idle_connection_is_closed(strict):
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections_are_refused_and_the_operator_still_gets_in(tmp_path):
    with Server(tmp_path, plain(server={"limits": {"connections": 20}})) as server:
        crowd = [server.client() for _ in range(20)]
        assert [client.get("/healthz").status for client in crowd] == [200] * 20  # each keeps its connection
        with connect(server) as late:
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                answer = read_all(late)
            except ConnectionResetError:
                answer = b""  # closed before it had read the answer
        assert answer.startswith(b"HTTP/1.1 503 ") or answer == b"", answer
        assert turnpike("keys", "list", "--data", server.data).returncode == 0
        assert [client.get("/healthz").status for client in crowd] == [200] * 20, "who was in stays in"
        for client in crowd:
            client.close()
        until(lambda: answers(server), "room again")
        server.stop()


def answers(server):
    client = server.client()
    try:
        return client.get("/healthz").status == 200
    except (OSError, http.client.HTTPException):  # closed in the face, or in the middle
        return False
    finally:
        client.close()


def test_tls_is_served_where_it_is_configured(tmp_path, certificate):
    key, file = certificate
    with Server(tmp_path, plain(server={"tls": {"certificate": str(file), "key": str(key)}})) as server:
        assert server.tls
        client = server.client(account=unique(), tls=tls_context(file))
        client.completed(client.submit("text", TEXT)["id"])
        assert client.connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        with connect(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert not read_all(connection).startswith(b"HTTP/1.1 200")
            except ConnectionResetError:
                pass  # no plain text here
        assert turnpike("keys", "list", "--data", server.data).returncode == 0, "the control socket needs no TLS"
        server.stop()


def test_a_missing_certificate_is_told(tmp_path):
    config = plain(server={"tls": {"certificate": str(tmp_path / "none.pem"), "key": str(tmp_path / "none.key")}})
    with Server(tmp_path, config, ready=False) as server:
        server.launch()
        assert server.left() == 3
        assert "none.pem" in server.output() or "none.key" in server.output()


# --- What it tells of itself


def test_metrics_are_prometheus_text(server, user):
    user.completed(user.submit("text", TEXT)["id"])
    answer = server.client().get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
    values = {}
    for line in lines:
        name, value = line.rsplit(" ", 1)
        values[name] = float(value)
    assert any(name.startswith("turnpike_") and "completed" in name and value >= 1 for name, value in values.items())
    assert any(name.startswith("turnpike_pickup_seconds_bucket") for name in values)


def test_logs_are_json_lines(server, user):
    server.logged("job.started", job=user.submit("text", TEXT)["id"])
    lines = list(server.err)
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
    assert all({"ts", "level", "event"} <= set(line) for line in server.log())


def test_the_queue_is_shown_to_the_operator(server, user, admin):
    ids = [user.submit("text", TEXT, model="sleeper")["id"] for _ in range(3)]
    user.reached(ids[1], "processing")
    queue = admin.get("/api/admin/queue").json
    pool = next(pool for pool in queue["pools"] if pool["name"] == "slow")
    assert pool["running"] == 2 and pool["queued"]["low"] == 1
    assert queue["processing"] >= 2 and queue["queued"] >= 1
    for job in ids:
        user.delete(f"/api/jobs/{job}")
