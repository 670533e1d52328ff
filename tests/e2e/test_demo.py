"""`turnpike demo`: four users on four plans get real files, in the order that their plans promise."""

import os
import pty
import re
import subprocess

import pytest

from media import png_size, wav_seconds
from support import BINARY, ROOT, Server, configuration, sandbox, turnpike

USERS = ("ada", "ben", "cleo", "dan")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("dev"), (ROOT / "presets/dev.yaml").read_text()) as running:
        yield running


def test_the_demonstration_makes_real_files_in_the_order_of_plans(server, tmp_path):
    done = turnpike("demo", "--data", server.data, "--out", tmp_path / "out", seconds=400)
    assert done.returncode == 0, done
    for user in USERS:
        files = sorted((tmp_path / "out" / user).iterdir())
        assert [path.suffix for path in files].count(".wav") == 6
        assert [path.suffix for path in files].count(".png") == 6
        assert [path.suffix for path in files].count(".mp4") == 1, "the user's part of the tale"
        for path in files:
            if path.suffix == ".mp4":
                assert b"ftyp" in path.read_bytes()[:32] and path.stem.startswith("run_")
                assert server.client(account=user).get(f"/api/runs/{path.stem}").json["status"] == "completed"
                continue
            if path.suffix == ".wav":
                assert wav_seconds(path.read_bytes()) > 0.5
            else:
                assert png_size(path.read_bytes()) == (1280, 720)
            assert server.client(account=user).job(path.stem)["status"] == "completed"
    order = re.search(r"order of completion.*\n\s*([1-4]{48})\n", done.stdout)[1]
    places = {plan: [place for place, seen in enumerate(order) if seen == plan] for plan in "1234"}
    means = [sum(places[plan]) / 12 for plan in "4321"]
    assert means == sorted(means), "higher plans were served first, though they asked last"
    assert "curl" in done.stdout and "48 files" in done.stdout
    assert len(re.findall(r"'s video \(tier[1-4]\): \S+\.mp4", done.stdout)) == 4
    assert "\x1b" not in done.stdout, "plain lines where there is no terminal"


def test_on_a_terminal_the_table_is_drawn_in_place(server, tmp_path):
    shown, terminal = pty.openpty()
    with subprocess.Popen([BINARY, "demo", "--data", server.data, "--out", tmp_path / "out"], stdin=subprocess.DEVNULL,
                          stdout=terminal, stderr=terminal) as demo:
        os.close(terminal)
        text = b""
        try:
            while part := os.read(shown, 65536):
                text += part
        except OSError:
            pass  # how the end of a terminal is told
        os.close(shown)
        assert demo.wait(30) == 0, text.decode()
    drawn = text.decode()
    assert "\x1b[6A" in drawn, "four users, a head and the time, again and again"
    assert re.search(r"ada\s+tier1.*12/12", drawn) and "ready in" in drawn


def test_without_a_server_the_demonstration_says_so(tmp_path):
    alone = turnpike("demo", "--data", tmp_path, "--out", tmp_path / "out")
    assert alone.returncode == 1 and "turnpike serve" in alone.stderr
    assert not (tmp_path / "out").exists()


def test_a_demonstration_that_fails_is_honest_about_it(tmp_path):
    config = configuration(providers={"quick": sandbox()},
                           models={"narrator": ("speech", "quick"), "card": ("image", "quick")})
    with Server(tmp_path / "home", config) as server:
        failed = turnpike("demo", "--data", server.data, "--out", tmp_path / "out")
        assert failed.returncode == 1
        assert "failed" in failed.stdout and "not everything was made" in failed.stderr
        server.stop()
