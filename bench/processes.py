"""The processes that the benchmarks start: Turnpike, its peers and upstreams, and what loads them. All are ended with them."""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60
LOAD_SECONDS_MAX = 1800
PORTS = (20_000, 32_000)
COMPLETED = "turnpike_jobs_completed_total"


class Failed(Exception):
    """The measurement is void: what happened."""


def free_port():
    """Below those that the kernel gives to connections that go out, which would take it before its server does."""
    while True:
        try:
            with socket.create_server(("127.0.0.1", random.randint(*PORTS))) as probe:
                return probe.getsockname()[1]
        except OSError:
            continue


def tail(path, lines=20):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


class Process:
    """A server in a folder of its own, with what it says in a file beside it. A context: leaving it kills."""

    def __init__(self, name, folder, command, environment=None, speaks=False):
        """`speaks`: its standard output is read, and it ends with its standard input."""
        self.name = name
        self.log = folder.with_suffix(".log")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([str(part) for part in command], cwd=ROOT,
                                          stdin=subprocess.PIPE if speaks else subprocess.DEVNULL,
                                          stdout=subprocess.PIPE if speaks else log, stderr=log, start_new_session=True,
                                          env=os.environ | (environment or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def await_ready(self, is_ready):
        """Seconds until `is_ready()`, looked at every 2 ms."""
        started = time.monotonic()
        while not is_ready():
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with status {self.child.returncode}:\n{tail(self.log)}")
            if time.monotonic() - started > READY_SECONDS_MAX:
                raise Failed(f"{self.name} was not ready within {READY_SECONDS_MAX} s:\n{tail(self.log)}")
            time.sleep(0.002)
        return time.monotonic() - started

    def resident_mb(self):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise Failed(f"{self.name} has no resident memory: it has ended")

    def stop(self):
        """Asks it to end; anything but status 0 in time is a failure."""
        self.child.send_signal(signal.SIGTERM)
        try:
            status = self.child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {STOP_SECONDS_MAX} s of SIGTERM") from None
        if status != 0:
            raise Failed(f"{self.name} ended with status {status}:\n{tail(self.log)}")

    def kill(self):
        """With all that it has started."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()


class Turnpike(Process):
    """A server on an empty or given data folder; ready when it is made."""

    def __init__(self, config, folder, program=ROOT / "build/turnpike"):
        self.key = secrets.token_hex(16)
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__("turnpike", folder, [program, "serve", "--config", ROOT / "bench" / config, "--listen",
                                              self.address, "--data", folder], {"TURNPIKE_ADMIN_KEY": f"tp_{self.key}"})
        try:
            self.ready_seconds = self.await_ready(lambda: self.get("/readyz") is not None)
        except BaseException:
            self.kill()
            raise

    def get(self, path):
        """The body of a 200, or nothing."""
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"Authorization": f"Bearer tp_{self.key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode() if answer.status == 200 else None
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def send(self, method, path, value):
        """Sends a JSON body, and gives that of the answer."""
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(value).encode(), method=method,
                                         headers={"Authorization": f"Bearer tp_{self.key}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def load(self, jobs, *options):
        """Runs bench_load against it and gives what that measured."""
        return run_json(ROOT / "build/bench/bench_load", "--address", self.address, "--jobs", jobs, *options,
                        environment={"TURNPIKE_ADMIN_KEY": f"tp_{self.key}"})


class Nginx(Process):
    """Debian's nginx with a configuration of ours; `serves` is what stands inside of its `server`."""

    def __init__(self, folder, serves, upstreams=""):
        self.address = f"127.0.0.1:{free_port()}"
        folder.mkdir(parents=True)
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes auto; pid {folder}/pid; error_log stderr warn;\n"
            "events { worker_connections 16384; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; tcp_nodelay on; {temporary} {upstreams}\n"
            f"server {{ listen {self.address} backlog=4096; {serves} }} }}\n")
        super().__init__("nginx", folder, ["/usr/sbin/nginx", "-c", folder / "nginx.conf", "-p", folder])
        ready(self)


class Portkey(Process):
    """The gateway of that name, from npm; which upstream to ask is said in each request."""

    def __init__(self, folder):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        super().__init__("portkey", folder, [
            "node", ROOT / "bench/portkey/node_modules/@portkey-ai/gateway/build/start-server.js", f"--port={port}",
            "--headless"], {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"})
        ready(self)


class Paced(Process):
    """Our upstream whose answers take a known time (load/upstream.cpp)."""

    def __init__(self, folder, *options):
        super().__init__("bench_upstream", folder, [ROOT / "build/bench/bench_upstream", *options], speaks=True)
        line = self.child.stdout.readline().decode().strip()
        if not line.isdigit():
            raise Failed(f"bench_upstream did not start:\n{tail(self.log)}")
        self.address = f"127.0.0.1:{line}"


def ready(process):
    """Waits until somebody listens at its address."""
    host, port = process.address.split(":")

    def listens():
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True
        except OSError:
            return False
    try:
        process.await_ready(listens)
    except BaseException:
        process.kill()
        raise


class Redis(Process):
    """Debian's redis-server, which keeps each write before it answers."""

    def __init__(self, folder):
        self.port = free_port()
        folder.mkdir(parents=True)
        super().__init__("redis-server", folder, [
            "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes",
            "--appendfsync", "always", "--save", "", "--daemonize", "no"])
        try:
            self.await_ready(self.answers)
        except BaseException:
            self.kill()
            raise

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def run(self, script, jobs, *options):
        return run_json("node", ROOT / "bench/bullmq" / script, "--port", self.port, "--jobs", jobs, *options)


def run_json(*command, environment=None):
    """Runs a program that prints one JSON object, and gives that."""
    words = [str(part) for part in command]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_SECONDS_MAX, check=False,
                              env=os.environ | (environment or {}))
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} was not done within {LOAD_SECONDS_MAX} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(words)}: status {done.returncode}\n{done.stderr.strip()}")
    return json.loads(done.stdout)


class Folder:
    """An empty folder for data on the disk of the checkout, gone afterwards."""

    def __init__(self):
        self.path = ROOT / "build/bench-data"

    def __enter__(self):
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, kind, *_):
        if kind is None:  # after a failure the logs are worth a look
            shutil.rmtree(self.path, ignore_errors=True)
