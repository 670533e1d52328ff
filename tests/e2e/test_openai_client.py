"""B8: the unmodified client of the OpenAI API from npm, with another base URL and nothing else (openai_client/cases.mjs)."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest

import upstream_wire
from gateway import PRICE, cost, paid, remote, routed, serve, verified
from support import ROOT, Upstream, configuration, unique

FOLDER = ROOT / "tests/e2e/openai_client"
CASES = re.findall(r"^export async function (\w+)", (FOLDER / "cases.mjs").read_text(), re.MULTILINE)
RUN_SECONDS = 120
MODELS = {"parrot": "text", "embedder": "embedding", "painter": "image", "retoucher": "image_edit", "speaker": "speech",
          "listener": "transcription"}
RULES = [
    {"prompt": "Leave me.", "tokens": 200, "pace_s": 0.005},
    {"prompt": "Stumble.", "status": 500, "times": 1},
    {"prompt": "Fail.", "status": 500},
    {"prompt": "Break off.", "fault": "error_event", "after": 2},
]


def settings(upstream):
    models = {}
    for name, task in MODELS.items():
        models |= routed(name, "first", task=task)
    media = {"per_image": "0.01", "characters_per_million": "15", "per_audio_second": "0.0001"}
    capped = {"priority_class": "standard", "cost_cap": {"monthly_usd": "100", "hard_stop": True}, "retry": {"attempts": 1}}
    return configuration(
        providers={"first": remote(upstream)}, models={}, prices={"first": {"default": {**PRICE, **media}}},
        plans={"metered": {**capped, "rates": {"rpm": 6000}}, "spent": {**capped, "quotas": {"tokens": 1}},
               "slow": {**capped, "rates": {"rpm": 20, "burst": 1}}}) | {"models": models}


class Ran:
    """One run of all cases, and what is left to look at."""

    def __init__(self, server, upstream, folder):
        self.server, self.upstream = server, upstream
        admin = server.client()
        keys, self.clients = {"bad": "sk-wrong"}, {}
        for key, plan in (("user", "metered"), ("spent", "spent"), ("slow", "slow")):
            name = unique()
            assert admin.request("PUT", f"/api/subscription/{name}", {"plan": plan}).status == 200
            keys[key] = admin.post("/api/admin/keys", {"role": "account", "user_id": name}).json["key"]
            self.clients[key] = server.client(account=name)
        self.picture = upstream_wire.png(8, 8, (255, 0, 0))
        self.sound = upstream_wire.wav(500)
        (folder / "picture.png").write_bytes(self.picture)
        (folder / "sound.wav").write_bytes(self.sound)
        given = {"base_url": f"http://127.0.0.1:{server.port}/v1", "keys": keys,
                 "files": {"picture": str(folder / "picture.png"), "sound": str(folder / "sound.wav")}}
        node = shutil.which("node")
        assert node, "there is no node: scripts/setup test installs it"
        assert (FOLDER / "node_modules/openai").is_dir(), "no client: scripts/node-packages tests/e2e/openai_client fetches it"
        done = subprocess.run([node, FOLDER / "run.mjs"], input=json.dumps(given), capture_output=True, text=True,
                              timeout=RUN_SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        self.results = json.loads(done.stdout)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    with Upstream() as upstream:
        for rule in RULES:
            upstream.rule(**rule)
        with serve(tmp_path_factory.mktemp("client"), settings(upstream)) as server:
            yield Ran(server, upstream, tmp_path_factory.mktemp("files"))
            verified(server)


@pytest.mark.parametrize("case", CASES)
def test_B8_the_client_from_npm(ran, case):
    assert ran.results[case] is None, ran.results[case]


def test_B8_every_case_ran(ran):
    assert sorted(ran.results) == sorted(CASES) and len(CASES) == len(set(CASES)) > 25


def test_B8_who_aborts_is_charged_what_the_upstream_used(ran):
    record = ran.upstream.ended(prompt="Leave me.")
    assert record["end"] == "complete" and record["events"] == 200
    assert paid(ran.clients["user"]) >= cost(2, 200)


def test_B8_files_reach_the_upstream_as_they_were(ran):
    edit = ran.upstream.requests(path="/v1/images/edits")
    assert len(edit) == 1 and edit[0]["files"]["image"]["sha256"] == hashlib.sha256(ran.picture).hexdigest()
    assert edit[0]["fields"]["prompt"] == "Make it blue" and edit[0]["model"] == "retoucher"
    heard = ran.upstream.requests(path="/v1/audio/transcriptions")
    assert len(heard) == 4
    assert {record["files"]["file"]["sha256"] for record in heard} == {hashlib.sha256(ran.sound).hexdigest()}


def test_B8_what_is_used_up_never_reaches_the_upstream(ran):
    assert ran.upstream.requests(prompt="x") == []
    assert paid(ran.clients["spent"]) == 0


def test_B8_the_upstream_sees_its_own_key_only(ran):
    assert {record["key"] for record in ran.upstream.requests()} == {"sk-of-the-upstream"}
    assert not any("turnpike-account" in record["headers"] for record in ran.upstream.requests())
