"""SD12: programs that stay and are asked over a Unix socket: shared or dedicated, started again, and never left behind."""

import os
import signal

import pytest
import yaml

from support import Server, configuration, processes_with, unique, until

PYTHON = "/usr/bin/python3"

# Answers with a name of its own, that each process gives itself anew, or does what the input says.
SCRIPT = '''
import http.server, json, os, random, socketserver, time

NAME = "%016x" % random.SystemRandom().getrandbits(64)

class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "-"
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for output in asked["outputs"].values():
            with open(output["path"], "w") as file:
                file.write("made for " + asked["input"]["text"])
        if asked["input"].get("hang"):
            self.connection.recv(1)
            return
        time.sleep(asked["input"].get("slow", 0))
        body = json.dumps({"output": {"name": NAME}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

Listener(os.environ["TURNPIKE_SOCKET"], Handler).serve_forever()
'''


def config_of(script):
    def served(**more):
        return {"kind": "exec", "tasks": {"ask": {}},
                "serve": {"command": [PYTHON, str(script)], "files": [str(script)], "concurrency": 4, **more}}
    shared, dedicated, writer = served(), served(dedicated="account", instances=2), served()
    dedicated["tasks"] = {"own": {}}
    writer["tasks"] = {"write": {"outputs": {"text": {"file": "made.txt", "mime": "text/plain"}}}}
    return configuration(providers={"shared": shared, "dedicated": dedicated, "writer": writer},
                         models={"asker": ("ask", "shared"), "owner": ("own", "dedicated"), "pen": ("write", "writer")})


def start(home):
    script = home / f"server-{unique()}.py"
    script.write_text(SCRIPT)
    for folder in (home, *home.parents):
        if not os.stat(folder).st_mode & 0o001 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    script.chmod(0o644)
    return Server(home / "server", config_of(script)), script


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server, script = start(tmp_path_factory.mktemp("staying"))
    with server:
        yield server, script


def name_of(client, task, **job_input):
    return client.completed(client.submit(task, job_input)["id"])["result"]["output"]["name"]


def pythons(script):
    """The process numbers of the programs themselves, not of the sandboxes around them."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].decode() == PYTHON and str(script).encode() in words:
            found.append(int(number))
    return found


def test_SD12_shared_is_one_process_for_all_accounts(running):
    server, _ = running
    names = {name_of(server.client(account=unique()), "ask") for _ in range(4)}
    assert len(names) == 1


def test_SD12_dedicated_is_one_process_for_each_account(running):
    server, _ = running
    one, two = server.client(account=unique()), server.client(account=unique())
    first, second = name_of(one, "own"), name_of(two, "own")
    assert first != second
    assert name_of(one, "own") == first and name_of(two, "own") == second
    third = name_of(server.client(account=unique()), "own")  # the bound is two: the one idle longest gives way
    assert third not in (first, second)
    assert name_of(two, "own") == second


def test_files_of_a_served_try_become_artifacts(running):
    server, _ = running
    client = server.client(account=unique())
    job = client.completed(client.submit("write", {"text": "Größe"})["id"])
    artifact = job["result"]["artifacts"][0]
    answer = client.get(artifact["url"])
    assert answer.status == 200 and answer.body.decode() == "made for Größe"


def test_a_cancelled_job_ends_and_the_process_serves_on(running):
    server, _ = running
    client = server.client(account=unique())
    name = name_of(client, "ask")
    job = client.submit("ask", {"hang": True})["id"]
    client.reached(job, "processing")
    assert client.delete(f"/api/jobs/{job}").json["status"] == "cancelled"
    assert name_of(client, "ask") == name


def test_a_killed_program_is_started_again_and_its_job_completes(tmp_path):
    server, script = start(tmp_path)
    with server:
        client = server.client(account=unique())
        first = name_of(client, "ask")
        job = client.submit("ask", {"slow": 2})["id"]
        client.reached(job, "processing")
        killed = pythons(script)
        assert len(killed) == 1
        os.kill(killed[0], signal.SIGKILL)
        assert client.completed(job)["result"]["output"]["name"] != first
        server.stop()
    assert not processes_with(str(script))


def test_a_program_goes_on_while_another_section_changes_and_is_replaced_with_its_own(tmp_path):
    server, script = start(tmp_path)
    with server:
        client = server.client(account=unique())
        first = name_of(client, "ask")
        config = config_of(script)
        for concurrency, goes_on in ((4, True), (3, False)):
            config["providers"]["dedicated"]["concurrency"] = 7 - concurrency
            config["providers"]["shared"]["serve"]["concurrency"] = concurrency
            applied = server.client().post("/api/admin/policy/apply", yaml.safe_dump(config).encode())
            assert applied.status == 200, applied.body
            assert (name_of(client, "ask") == first) == goes_on
        server.stop()
    assert not processes_with(str(script))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_no_process_outlives_the_server(tmp_path, how):
    server, script = start(tmp_path)
    with server:
        name_of(server.client(account=unique()), "ask")
        name_of(server.client(account=unique()), "own")
        assert len(pythons(script)) == 2
        getattr(server, how)()
        until(lambda: not processes_with(str(script)), "the end of all its processes", 5)
