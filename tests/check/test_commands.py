"""scripts/setup, scripts/run and scripts/tidy, with stand-ins for what they start."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SERVER = """#!/usr/bin/python3
import http.server, os, signal, sys, threading
if sys.argv[1] == "demo":
    print("demo", *sys.argv[2:], flush=True)
    sys.exit(int(os.environ.get("DEMO_STATUS", "0")))
if "SERVER_STATUS" in os.environ:
    sys.exit(int(os.environ["SERVER_STATUS"]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
host, port = sys.argv[sys.argv.index("--listen") + 1].split(":")
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=server.shutdown).start())
signal.signal(signal.SIGINT, lambda *a: threading.Thread(target=server.shutdown).start())
server.serve_forever()
print("drained", flush=True)
sys.exit(7)
"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(name="place")
def make_place(tmp_path):
    """A checkout with a stand-in for the program, and a free port."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "run", tmp_path / "scripts/run")
    write_program(tmp_path / "build/turnpike", SERVER)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return tmp_path, f"127.0.0.1:{port}"


def start(place, *arguments, **environment):
    folder, listen = place
    return subprocess.Popen([folder / "scripts/run", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"LISTEN": listen} | environment)


def finish(process):
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, out, err


def test_run_once_serves_shows_the_demonstration_and_drains(place):
    status, out, _ = finish(start(place, "--once", OUT="there", DATA="here"))
    assert out.splitlines() == ["demo --data here --out there", "drained"]
    assert status == 7  # the server's own status


def test_run_once_ends_with_the_status_of_a_demonstration_that_failed(place):
    status, _, err = finish(start(place, "--once", DEMO_STATUS="3"))
    assert status == 3 and "ended with status 3" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_passes_a_signal_on_and_ends_as_the_server_does(place, number):
    process = start(place)
    for line in process.stderr:
        if "until Ctrl-C" in line:
            break
    process.send_signal(number)
    status, out, _ = finish(process)
    assert status == 7 and out.endswith("drained\n")


def test_run_names_another_port_when_its_own_is_taken(place):
    _, listen = place
    port = int(listen.split(":")[1])
    with socket.create_server(("127.0.0.1", port)):
        status, _, err = finish(start(place))
    assert status == 1 and f"make run LISTEN=127.0.0.1:{port + 1}" in err


def test_run_ends_as_a_server_that_could_not_start(place):
    status, out, _ = finish(start(place, SERVER_STATUS="5"))
    assert (status, out) == (5, "")


@pytest.fixture(name="machine")
def make_machine(tmp_path):
    """Runs scripts/setup with stand-ins for dpkg-query and apt-get; the latter write down what they were asked."""
    tools = tmp_path / "tools"
    log = tmp_path / "log"
    log.touch()
    write_program(tools / "apt-get", f'#!/bin/sh\necho "$@" >> {log}\n')
    write_program(tools / "id", "#!/bin/sh\necho 0\n")

    def setup(*arguments, installed="*", system=None):
        answer = 'for a; do case $a in -*|\\$*) ;; *) echo "installed $a" ;; esac; done' if installed == "*" else (
            "\n".join(f"echo 'installed {name}'" for name in installed))
        write_program(tools / "dpkg-query", f"#!/bin/sh\n{answer}\n")
        script = tmp_path / "setup"
        text = (SCRIPTS / "setup").read_text()
        if system:
            (tmp_path / "os-release").write_text(system)
            assert "/etc/os-release" in text
            text = text.replace("/etc/os-release", str(tmp_path / "os-release"))
        write_program(script, text)
        done = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=30, check=False,
                              env={"PATH": f"{tools}:/usr/bin:/bin"})
        return done.returncode, done.stderr, log.read_text()

    return setup


@pytest.mark.parametrize("purpose", ["build", "run", "test"])
def test_setup_does_nothing_where_nothing_is_missing(machine, purpose):
    assert machine(purpose) == (0, "", "")


def test_setup_says_what_and_why_and_installs_only_that(machine):
    every = [line.split('"')[1].split("|")[0] for line in (SCRIPTS / "setup").read_text().splitlines() if line.startswith('  "')]
    status, said, asked = machine("run", installed=[name for name in every if name not in ("espeak-ng", "clang-19")])
    assert status == 0
    assert "clang-19                 the compiler" in said and "espeak-ng                makes speech" in said
    update, install = asked.splitlines()
    assert update.endswith(" update") and install.endswith("install --no-install-recommends clang-19 espeak-ng")


def test_setup_names_the_packages_on_another_system_and_installs_nothing(machine):
    status, said, asked = machine("build", installed=[], system='ID=ubuntu\nVERSION_ID="24.04"\n')
    assert (status, asked) == (1, "")
    assert "here is ubuntu 24.04" in said and "clang-19: the compiler" in said and "TURNPIKE_SETUP=skip" in said


def test_setup_refuses_a_purpose_that_it_does_not_know(machine):
    assert machine("everything")[0] == 2


TIDY_STAND_IN = r"""#!/bin/sh
# Notes what it looks at, a group as its files; finds fault with `bad`, and with what stands twice in a group.
case $1 in --version) echo 19; exit ;; esac
case $5 in
*/groups/*) set -- $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$5") ;;
*) set -- "$5" ;;
esac
names=; for file; do names="$names+${file##*/}"; done; echo "${names#+}" >> seen
if grep -Hn bad "$@"; then exit 1; fi
[ -z "$(cat "$@" | sort | uniq -d)" ] || { echo "error: redefinition"; exit 1; }
"""


@pytest.fixture(name="tidy")
def tidy_of_a_project(tmp_path):
    """scripts/tidy in a project of three files: its status, what clang-tidy was shown, and what it said."""
    write_program(tmp_path / "tools/clang-tidy-19", TIDY_STAND_IN)
    for name, text in {"src/a/a.cpp": '#include "a/a.h"\n', "src/a/b.cpp": "int b;\n", "src/a/c.cpp": "int c;\n",
                       "src/a/a.h": "int a;\n", ".clang-tidy": "", "build/compile_commands.json": "[" + ",".join(
                           f'{{"file": "{tmp_path}/src/a/{n}.cpp", "command": "c"}}' for n in "abc") + "]"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "tidy", tmp_path / "scripts/tidy")

    def run(*files):
        (tmp_path / "seen").write_text("")
        done = subprocess.run([tmp_path / "scripts/tidy", *files], capture_output=True, text=True, timeout=30, check=False,
                              cwd=tmp_path, env=os.environ | {"PATH": f"{tmp_path}/tools:/usr/bin:/bin"})
        return done.returncode, sorted((tmp_path / "seen").read_text().split()), done.stdout

    return run


def test_tidy_looks_again_only_at_what_changed(tidy, tmp_path):
    assert tidy()[:2] == (0, ["a.cpp+b.cpp+c.cpp"])
    assert tidy()[:2] == (0, [])
    (tmp_path / "src/a/a.h").write_text("int a2;\n")
    assert tidy()[:2] == (0, ["a.cpp"])
    (tmp_path / "src/a/b.cpp").write_text("bad\n")
    assert tidy()[:2] == (1, ["b.cpp"])
    assert tidy()[:2] == (1, ["b.cpp"])  # what failed is looked at again
    (tmp_path / "src/a/d.cpp").write_text("int d;\n")
    assert "src/a/d.cpp:1: is compiled by no target" in tidy()[2]


def test_tidy_finds_the_file_at_fault_in_a_group(tidy, tmp_path):
    (tmp_path / "src/a/b.cpp").write_text("bad\n")
    status, seen, said = tidy()
    assert (status, seen) == (1, ["a.cpp", "a.cpp+b.cpp+c.cpp", "b.cpp", "c.cpp"])
    assert "src/a/b.cpp:1:bad" in said and "3 files, 3 looked at, 1 with offences" in said


def test_tidy_looks_at_files_alone_that_do_not_compile_together(tidy, tmp_path):
    for name in "bc":
        (tmp_path / f"src/a/{name}.cpp").write_text("twice\n")
    assert tidy()[:2] == (0, ["a.cpp", "a.cpp+b.cpp+c.cpp", "b.cpp", "c.cpp"])


def test_tidy_keeps_files_apart_that_define_the_same(tidy, tmp_path):
    for name in "bc":
        (tmp_path / f"src/a/{name}.cpp").write_text(f"namespace {{\nint helper({'int' * (name == 'b')}) {{ return 1; }}\n}}\n")
    assert tidy()[:2] == (0, ["a.cpp+b.cpp", "c.cpp"])


def test_tidy_looks_alone_at_a_file_that_is_named(tidy):
    assert tidy("src/a/a.cpp", "src/a/b.cpp")[:2] == (0, ["a.cpp", "b.cpp"])


def test_tidy_looks_at_a_folder_that_is_named_and_at_no_other(tidy, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/d.cpp").write_text("bad\n")
    assert tidy("src")[:2] == (0, ["a.cpp+b.cpp+c.cpp"])
    assert tidy("src", "tests")[0] == 1
