"""A program that is missing, hangs, forks, fills the disk or writes garbage: its job says so, its neighbours run on."""

import pytest

from support import Server, configuration, processes_with, sandbox, shell, unique, until

MARK = "31536002"  # seconds of sleep that no other test asks for

TASKS = {
    "echo": shell("cat", stdin_json=True),
    "missing": {"steps": [{"command": ["/opt/no-such-program"]}], "stdout_json": True},
    "hang": shell(f"sleep {MARK}; echo '{{}}'", limits={"time": "1s"}),
    "fork": shell(f"for i in 1 2 3 4 5 6; do (sleep {MARK} &) ; done; sleep {MARK}; echo '{{}}'", limits={"time": "1s"}),
    "crowd": shell(f"for i in $(seq 60); do sleep {MARK} & done; wait; echo '{{}}'", limits={"processes": 20}),
    "daemon": shell(f"setsid sleep {MARK} >/dev/null 2>&1 & echo '{{}}'", limits={"time": "10s"}),
    "fill": shell("head -c 64M /dev/zero > big && echo '{}'", limits={"file_size": "1MiB"}),
    "many": shell("for i in $(seq 1000); do head -c 1M /dev/zero > f$i; sleep 0.02; done; echo '{}'",
                  limits={"file_size": "1MiB", "time": "30s"}),
    "eat": shell("head -c 300M /dev/zero | tail -c 300M | wc -c", limits={"memory": "64MiB", "time": "20s"}),
    "garbage": shell("head -c 3000 /dev/urandom"),
    "flood": shell("yes", limits={"output": "64KiB", "time": "10s"}),
    "silent": shell("true"),
    "fail": shell("echo it broke on purpose >&2; exit 3"),
    "blame": shell("echo this input is no good >&2; exit 65"),
    "crash": shell("kill -SEGV $$"),
    "phone": shell("cat < /dev/tcp/127.0.0.1/1; (exec 3<>/dev/udp/127.0.0.1/53) 2>/dev/null; ls /sys/class/net >&2;"
                   " ip link >&2; exit 1"),
    "write": shell("echo owned > /usr/owned || echo owned > /etc/owned || exit 1; echo '{}'"),
    "env": shell("""printf '{"seen":"%s"}' "$(env | tr -d '\\n"\\\\')" """),
    "fileless": {"steps": [{"command": ["true"]}], "outputs": {"picture": {"file": "x.png", "mime": "image/png"}}},
    "link": {"steps": [{"command": ["ln", "-s", "/etc/passwd", "x.txt"]}],
             "outputs": {"text": {"file": "x.txt", "mime": "text/plain"}}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    config = configuration(
        providers={"programs": {"kind": "exec", "concurrency": 8, "tasks": TASKS}, "quick": sandbox()},
        models={**{f"model-{task}": (task, "programs") for task in TASKS}, "writer": ("text", "quick")},
        plans={"tier1": {"priority_class": "low", "limits": {"concurrent_jobs": 8}}})
    with Server(tmp_path_factory.mktemp("programs"), config, environment={"A_SECRET": "of-the-server"}) as running:
        yield running


def run(client, task, job_input=None, **fields):
    return client.ended(client.submit(task, job_input or {}, max_attempts=1, **fields)["id"], 60)


def test_json_goes_in_and_out(user):
    sent = {"text": "Größe \U0001f600 \"quoted\"\n", "list": [1, 2.5, None, True], "deep": {"er": {"still": []}}}
    assert run(user, "echo", sent)["result"]["output"] == sent


# task -> (code of the job's error, words of its message)
FAILURES = {
    "missing": ("misconfigured", "no-such-program"),
    "hang": ("timeout", ""),
    "fork": ("timeout", ""),
    "crowd": ("bad_output", "processes"),
    "fill": ("bad_output", "larger"),
    "many": ("bad_output", "more files than it may"),
    "eat": ("bad_output", ""),
    "garbage": ("bad_output", ""),
    "flood": ("bad_output", ""),
    "silent": ("bad_output", ""),
    "fail": ("transient", "it broke on purpose"),
    "blame": ("invalid_input", "this input is no good"),
    "crash": ("transient", "signal"),
    "phone": ("transient", ""),
    "write": ("transient", ""),
    "fileless": ("bad_output", "output picture"),
    "link": ("bad_output", "output text"),
}


@pytest.mark.parametrize("task", FAILURES)
def test_a_bad_program_fails_its_job_with_what_happened(server, user, task):
    code, words = FAILURES[task]
    neighbour = user.submit("echo", {"n": 1})["id"]
    job = run(user, task)
    assert job["status"] == "failed" and job["error"]["message"], job
    assert job["error"]["code"] == code and words in job["error"]["message"], job["error"]
    assert str(server.data) not in job["error"]["message"], "no path of the server is told"
    assert user.completed(neighbour)["result"]["output"] == {"n": 1}
    assert user.completed(user.submit("text", {"prompt": "x"})["id"])
    until(lambda: not processes_with(MARK), "the end of all its processes", 5)
    until(lambda: not any((server.data / "work").iterdir()), "the removal of its files", 5)


def test_what_a_program_left_behind_ends_with_it(user):
    assert run(user, "daemon")["status"] == "completed"
    until(lambda: not processes_with(MARK), "the end of what it left", 5)


def test_a_program_sees_no_network_card(user):
    message = run(user, "phone")["error"]["message"]
    assert "eth" not in message and "ens" not in message


def test_a_program_does_not_see_the_servers_environment(user):
    seen = run(user, "env")["result"]["output"]["seen"]
    assert "of-the-server" not in seen and "ADMIN_KEY" not in seen and "PATH=" in seen


def test_cancel_kills_a_program_as_a_whole(tmp_path):
    marker = "31536003"
    config = configuration(
        providers={"programs": {"kind": "exec", "tasks": {
            "rest": shell(f"(sleep {marker} &); setsid sleep {marker} & sleep {marker}; echo '{{}}'",
                          limits={"time": "60s"})}}},
        models={"bed": ("rest", "programs")})
    with Server(tmp_path, config) as server:
        client = server.client(account=unique())
        job = client.submit("rest", {})["id"]
        until(lambda: len(processes_with(f"sleep\0{marker}")) == 3, "the programs")
        assert client.delete(f"/api/jobs/{job}").json["status"] == "cancelled"
        until(lambda: not processes_with(marker), "the programs' end", 5)
        server.stop()
