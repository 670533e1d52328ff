"""The server as a process, its clients, and an upstream to serve it: what every end-to-end test stands on."""

import copy
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TURNPIKE_BIN") or ROOT / "build/turnpike").resolve()
ADMIN_KEY = "tp_an-admin-key-of-the-end-to-end-tests"
START_SECONDS = 30  # of a server, and of whatever else must happen at once on a busy machine
WAIT_SECONDS = 30
LOOK_SECONDS = 0.01  # between two looks at what has no event to wait for

ENDED = ("completed", "failed", "cancelled", "expired")


def until(condition, what, seconds=WAIT_SECONDS):
    """Looks until `condition()` is true and returns what it gave; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(LOOK_SECONDS)


def unique(prefix="user"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def processes_with(marker):
    """Pids of the processes whose command line holds `marker`; zombies have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in command:
            found.append(int(entry.name))
    return found


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    def __repr__(self):
        return f"{self.status} {self.body[:2000]!r}"


class Client:
    """One caller: a key, and the user it acts for. Keeps its connection; not for two threads at once."""

    def __init__(self, port, key=ADMIN_KEY, account=None, tls=None):
        self.port = port
        self.key = key
        self.account = account
        self.tls = tls
        self.connection = None

    def acting_for(self, account):
        return Client(self.port, self.key, account, self.tls)

    def _connect(self):
        if self.tls is not None:
            return http.client.HTTPSConnection("localhost", self.port, timeout=WAIT_SECONDS, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)

    def headers(self, more=None):
        headers = {}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if self.account is not None:
            headers["Turnpike-Account"] = self.account
        headers.update(more or {})
        return headers

    def request(self, method, path, body=None, headers=None):
        """`body`: bytes as they are, or a value to send as JSON."""
        headers = self.headers(headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.connection is None:
            self.connection = self._connect()
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.will_close:
            self.close()
        return answer

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, path, body=None, headers=None):
        return self.request("POST", path, body, headers)

    def delete(self, path):
        return self.request("DELETE", path)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # --- Jobs

    def submit(self, task, job_input, **fields):
        answer = self.post("/api/jobs", {"task": task, "input": job_input, **fields})
        assert answer.status == 202, answer
        return answer.json

    def job(self, job_id):
        answer = self.get(f"/api/jobs/{job_id}")
        assert answer.status == 200, answer
        return answer.json

    def ended(self, job_id, seconds=WAIT_SECONDS):
        """The job once it has ended."""
        def look():
            job = self.job(job_id)
            return job if job["status"] in ENDED else None
        return until(look, f"the end of {job_id}", seconds)

    def reached(self, job_id, *statuses):
        def look():
            job = self.job(job_id)
            return job if job["status"] in statuses else None
        return until(look, f"{job_id} {' or '.join(statuses)}")

    def completed(self, job_id, seconds=WAIT_SECONDS):
        job = self.ended(job_id, seconds)
        assert job["status"] == "completed", job
        return job

    def jobs(self, query=""):
        """All jobs of a list, page by page."""
        found, after = [], ""
        while True:
            page = self.get(f"/api/jobs?limit=100{query}{after}").json
            found += page["data"]
            if not page["has_more"]:
                return found
            after = f"&starting_after={page['data'][-1]['id']}"


class Events:
    """A stream of server-sent events. Iterating gives (id, type, CloudEvent) until the server ends it."""

    def __init__(self, client, path, last_event_id=None, headers=None):
        self.connection = client._connect()
        more = {**(headers or {}), **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        self.connection.request("GET", path, headers=client.headers(more))
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def __iter__(self):
        event_id, kind = None, None
        for line in self.response:
            line = line.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if name == "id":
                event_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                yield event_id, kind, json.loads(value)
                event_id, kind = None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


class Server:
    """`turnpike serve` on a free port, with its own data folder under `home`."""

    def __init__(self, home, config, environment=None, preexec=None, ready=True):
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.data = self.home / "data"
        self.config_file = self.home / "config.yaml"
        self.environment = {**os.environ, "TURNPIKE_ADMIN_KEY": ADMIN_KEY, **(environment or {})}
        self.preexec = preexec
        self.process = None
        self.port = None
        self.configure(config)
        if ready:
            self.start()

    def configure(self, config):
        """Writes the file; says nothing to a server that runs."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        self.config_file.write_text(text)

    def start(self):
        self.launch()
        line = until(lambda: self.said("serves on ") or self.has_left(), "the start", START_SECONDS)
        assert isinstance(line, str), f"the server left with {self.process.returncode}: {self.output()}"
        self.tls = line.split("serves on ")[1].startswith("https")
        self.port = int(line.split("serves on ")[1].split()[0].rsplit(":", 1)[1])
        return self

    def launch(self):
        """Starts the process without waiting for what it does."""
        self.out = []
        self.err = []
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", self.config_file, "--listen", "127.0.0.1:0", "--data", self.data],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", preexec_fn=self.preexec)
        self.readers = [threading.Thread(target=self._read, args=arguments, daemon=True)
                        for arguments in ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def said(self, words):
        return next((line for line in list(self.out) if words in line), None)

    def has_left(self):
        return self.process.poll() is not None

    def output(self):
        return "\n".join([*self.out, *self.err])

    def log(self, event=None):
        """The log's lines as values, those of one event or all."""
        lines = [json.loads(line) for line in list(self.err) if line.startswith("{")]
        return [line for line in lines if event in (None, line["event"])]

    def logged(self, event, **fields):
        """Waits for a line of the log that has these fields."""
        def look():
            for line in self.log(event):
                if all(line.get(name) == value for name, value in fields.items()):
                    return line
            return None
        return until(look, f"{event} {fields} in the log")

    def client(self, key=ADMIN_KEY, account=None, tls=None):
        return Client(self.port, key, account, tls)

    def signal(self, number):
        self.process.send_signal(number)

    def left(self, seconds=WAIT_SECONDS):
        """Waits for the process to end; returns its status. What it said is complete then."""
        status = self.process.wait(timeout=seconds)
        for reader in self.readers:
            reader.join(timeout=5)
        return status

    def stop(self):
        self.signal(signal.SIGTERM)
        assert self.left() == 0, self.output()

    def kill(self):
        self.signal(signal.SIGKILL)
        self.left()

    def close(self):
        """Whatever a test left: asked to go, then made to."""
        if self.process is None or self.has_left():
            return
        self.signal(signal.SIGTERM)
        try:
            self.left(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def turnpike(*arguments, environment=None, cwd=None, seconds=WAIT_SECONDS):
    """Runs another subcommand to its end."""
    return subprocess.run([BINARY, *map(str, arguments)], env={**os.environ, **(environment or {})}, cwd=cwd,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)


# --- Configurations


def sandbox(latency="0s", concurrency=8, **more):
    return {"kind": "sandbox", "seed": 1, "concurrency": concurrency, "latency": {"p50": latency, "p99": latency},
            **more}


def program(*command, **task):
    """An exec task of one command whose standard output is the result."""
    task.setdefault("stdout_json", True)
    return {"steps": [{"command": list(command)}], **task}


def shell(script, **task):
    return program("sh", "-c", script, **task)


def configuration(providers=None, models=None, plans=None, **sections):
    """A configuration of providers (by name) and of models (by name: task and provider), and story's four plans."""
    providers = {"quick": sandbox()} if providers is None else providers
    models = {"writer": ("text", "quick")} if models is None else models
    made = {
        "accounts": {"default_plan": "tier1", "tier_from": "request"},
        "providers": copy.deepcopy(providers),
        "models": {name: {"task": task, "providers": [provider]} for name, (task, provider) in models.items()},
        "defaults": {"plan": {"retry": {"attempts": 3, "base": "50ms", "factor": 2.0, "cap": "1s", "jitter": "0%"},
                              "attempt_timeout": "20s"}},
        "plans": {
            "tier1": {"priority_class": "low", "limits": {"concurrent_jobs": 2, "dispatch_batch": 3}},
            "tier2": {"priority_class": "standard", "limits": {"concurrent_jobs": 5, "dispatch_batch": 5}},
            "tier3": {"priority_class": "high", "limits": {"concurrent_jobs": 10, "dispatch_batch": 10}},
            "tier4": {"priority_class": "critical", "limits": {"concurrent_jobs": 20, "dispatch_batch": 15}},
        },
    }
    made["plans"].update(plans or {})
    made.update(sections)
    return made


# --- An upstream


class Upstream:
    """The fake upstream (upstream.py) as a process: told what to do, and asked what it saw."""

    def __init__(self, port=0, **rule):
        """`rule`: what it does with requests that no other rule fits."""
        self.lock = threading.Lock()  # one question at a time
        self.process = None
        self.start(port)
        if rule:
            self.rule(**rule)

    def start(self, port=0):
        # Unbuffered and without a reader thread: it says one line, and complains only of what it cannot read.
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-B", Path(__file__).with_name("upstream.py"), "--port", str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = self.process.stdout.readline().split()
        assert said, "the fake upstream did not start"
        self.port, control = int(said[1]), int(said[3])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.link = socket.create_connection(("127.0.0.1", control), timeout=WAIT_SECONDS)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.link.makefile("rb")

    def do(self, what, **more):
        with self.lock:
            self.link.sendall(json.dumps({"do": what, **more}).encode() + b"\n")
            answer = self.answers.readline()
        assert answer, f"the fake upstream cannot {what} {more}"
        return json.loads(answer)

    def rule(self, prompt=None, model=None, key=None, path=None, **what):
        """From now on such requests get this (see upstream.py); gives a number to forget it by."""
        given = {"prompt": prompt, "model": model, "key": key, "path": path}
        match = {name: value for name, value in given.items() if value is not None}
        return self.do("rule", rule={"match": match, **what})

    def forget(self, rule=None):
        """One rule, or all."""
        self.do("forget", rule=rule)

    def limit_key(self, key, requests, window_s=None):
        """More than `requests` with this key, in all or in any `window_s` seconds, are answered 429."""
        self.do("key", key=key, limit={"limit": requests, **({"window_s": window_s} if window_s else {})})

    def step(self, name, count=1):
        """Lets `count` things that wait for `name` go on; without a count all, for good."""
        self.do("step", name=name, count=count)

    def down(self):
        self.do("down")

    def up(self):
        self.do("up")

    def kill(self):
        """As a machine that loses its power; start(port) brings another up."""
        self.process.kill()
        self.process.wait()
        self.link.close()

    @property
    def state(self):
        return self.do("state")

    @property
    def asked(self):
        """Prompts, in the order they came."""
        return [prompt for prompt, path in self.do("requests", names=["prompt", "path"]) if not path.endswith("/models")]

    def requests(self, **those):
        """What it wrote down of those requests: each a dict (upstream.py, write_down)."""
        return [record for record in self.do("requests")
                if all(record[name] == value for name, value in those.items())]

    def ended(self, **those):
        """The one such request, once the upstream is through with it."""
        def look():
            found = self.requests(**those)
            assert len(found) <= 1, found
            return found[0] if found and found[0]["end"] != "open" else None
        return until(look, f"the end of {those} at the upstream")

    def close(self):
        self.link.close()
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tls_context(certificate):
    context = ssl.create_default_context(cafile=certificate)
    return context
