"""Configurations: checked, put in force while the server runs, kept as versions; a bad one changes nothing."""

import json
import signal

import pytest
import yaml

from support import ROOT, Server, configuration, sandbox, turnpike, unique

TEXT = {"prompt": "Say something."}


def two_at_a_time(limit=1, **more):
    return configuration(
        providers={"slow": sandbox("30s"), "quick": sandbox()},
        models={"writer": ("text", "quick"), "sleeper": ("text", "slow")},
        plans={"tier1": {"priority_class": "low", "limits": {"concurrent_jobs": limit}}}, **more)


@pytest.fixture
def own(tmp_path):
    with Server(tmp_path, two_at_a_time()) as running:
        yield running


def state(client, ids):
    return [client.job(job)["status"] for job in ids]


def cancel_all(client, ids):
    for job in ids:
        client.delete(f"/api/jobs/{job}")


def test_ST7_a_raised_limit_starts_waiting_jobs_at_once(own):
    client = own.client(account=unique())
    ids = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(4)]
    client.reached(ids[0], "processing")
    assert state(client, ids) == ["processing", "queued", "queued", "queued"]
    own.configure(two_at_a_time(3))
    own.signal(signal.SIGHUP)
    client.reached(ids[2], "processing")
    assert state(client, ids) == ["processing"] * 3 + ["queued"]
    cancel_all(client, ids)


def test_ST7_a_lowered_limit_lets_running_jobs_finish(own):
    own.configure(two_at_a_time(2))
    assert turnpike("apply", "--config", own.config_file, "--data", own.data).returncode == 0
    client = own.client(account=unique())
    ids = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(3)]
    client.reached(ids[1], "processing")
    own.configure(two_at_a_time(1))
    applied = turnpike("apply", "--config", own.config_file, "--data", own.data)
    assert applied.returncode == 0 and "version 3" in applied.stdout
    assert state(client, ids) == ["processing", "processing", "queued"]
    client.delete(f"/api/jobs/{ids[0]}")
    assert state(client, ids[1:]) == ["processing", "queued"], "one of one runs: the next waits"
    client.delete(f"/api/jobs/{ids[1]}")
    client.reached(ids[2], "processing")
    cancel_all(client, ids[2:])


BAD = """
accounts: {default_plan: tier1}
providers: {quick: {kind: sandbox, latncy: {p50: 1ms}}}
models: {writer: {task: text, providers: [quik]}}
plans:
  tier1:
    limits: {concurent_jobs: 2}
"""


def test_a_bad_file_changes_nothing_and_every_mistake_is_told(own):
    client = own.client(account=unique())
    ids = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(2)]
    before = own.client().get("/api/admin/policy").json
    own.configure(BAD)
    refused = turnpike("apply", "--config", own.config_file, "--data", own.data)
    assert refused.returncode == 3 and refused.stdout == ""
    for words in ("concurent_jobs", "concurrent_jobs", "latncy", "quik", ":7:"):
        assert words in refused.stderr, refused.stderr
    own.signal(signal.SIGHUP)
    own.logged("policy.refused")
    assert len(own.log("policy.mistake")) >= 3
    assert own.client().get("/api/admin/policy").json == before
    client.reached(ids[0], "processing")
    cancel_all(client, ids)


def test_the_api_refuses_a_bad_policy_with_every_mistake(own):
    admin = own.client()
    answer = admin.post("/api/admin/policy/apply", BAD.encode(), {"Content-Type": "application/yaml"})
    assert answer.status == 422 and answer.error["code"] == "unprocessable"
    mistakes = answer.error["mistakes"]
    assert len(mistakes) >= 3 and all(mistake["line"] > 0 and mistake["message"] for mistake in mistakes)
    assert any(mistake["line"] == 7 and "concurrent_jobs" in mistake["message"] for mistake in mistakes)
    assert admin.get("/api/admin/policy").json["version"] == 1


def test_B9_each_applied_version_is_kept(own):
    admin = own.client()
    first = admin.get("/api/admin/policy").json
    assert first["version"] == 1 and first["text"] == own.config_file.read_text()
    same = turnpike("apply", "--config", own.config_file, "--data", own.data)
    assert "version 1" in same.stdout, "an unchanged file keeps the version that is in force"
    own.configure(two_at_a_time(7))
    assert "version 2" in turnpike("apply", "--config", own.config_file, "--data", own.data).stdout
    versions = admin.get("/api/admin/policy/versions").json["data"]
    assert [version["version"] for version in versions] == [2, 1]
    assert versions[1]["text"] == first["text"] and versions[0]["applied_by"]
    own.stop()
    own.start()
    assert own.client().get("/api/admin/policy").json["version"] == 2


def test_plans_are_shown_as_they_are_in_force(own):
    plans = {plan["name"]: plan for plan in own.client().get("/api/admin/plans").json["data"]}
    assert plans["tier4"]["priority_class"] == "critical" and plans["tier4"]["limits"]["concurrent_jobs"] == 20
    assert plans["tier1"]["limits"] | {"concurrent_jobs": 1, "dispatch_batch": 1} == plans["tier1"]["limits"]


def test_ST7_a_removed_provider_loses_no_job(own):
    client = own.client(account=unique())
    ids = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(2)]
    client.reached(ids[0], "processing")
    without = two_at_a_time(1)
    del without["providers"]["slow"], without["models"]["sleeper"]
    own.configure(without)
    assert turnpike("apply", "--config", own.config_file, "--data", own.data).returncode == 0
    assert state(client, ids) == ["processing", "queued"]
    assert client.job(ids[1])["queue"]["waiting_for"] == "paused"
    refused = client.post("/api/jobs", {"task": "text", "input": TEXT, "model": "sleeper"})
    assert refused.status == 400 and refused.error["param"] == "model"
    client.delete(f"/api/jobs/{ids[0]}")
    client.completed(client.submit("text", TEXT)["id"])
    assert client.job(ids[1])["status"] == "queued"
    own.configure(two_at_a_time(1))
    assert turnpike("apply", "--config", own.config_file, "--data", own.data).returncode == 0
    client.reached(ids[1], "processing")
    client.delete(f"/api/jobs/{ids[1]}")


@pytest.mark.parametrize("preset", ["dev", "story", "studio"])
def test_presets_have_no_mistake(preset):
    checked = turnpike("check", "--config", ROOT / f"presets/{preset}.yaml")
    assert checked.returncode == 0 and "no mistakes" in checked.stdout, checked


def test_check_names_file_line_path_and_what_would_be_right(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    checked = turnpike("check", "--config", file)
    assert checked.returncode == 3
    line = next(line for line in checked.stderr.splitlines() if "concurent_jobs" in line)
    assert line.startswith(f"{file}:7:") and "plans.tier1" in line and "did you mean `concurrent_jobs`?" in line
    assert turnpike("check", "--config", tmp_path / "nothing.yaml").returncode == 3


def test_a_server_refuses_to_start_with_a_bad_file(tmp_path):
    with Server(tmp_path, BAD, ready=False) as server:
        server.launch()
        assert server.left() == 3
        assert "concurent_jobs" in server.output() and not server.data.exists()


def test_apply_without_a_server_says_so(tmp_path):
    refused = turnpike("apply", "--config", ROOT / "presets/dev.yaml", "--data", tmp_path)
    assert refused.returncode == 1 and "no server runs" in refused.stderr


def test_an_endpoint_of_the_operators_makes_jobs(tmp_path):
    config = two_at_a_time(2, endpoints=[
        {"path": "/write", "task": "text"},
        {"path": "/write-now", "task": "text", "wait": "20s"},
        {"path": "/queue", "alias": "/api/jobs"},
    ])
    with Server(tmp_path, config) as server:
        client = server.client(account=unique())
        made = client.post("/write", {"prompt": "Hello."})
        assert made.status == 202 and made.json["task"] == "text"
        now = client.post("/write-now", {"prompt": "Hello."})
        assert now.status == 200 and now.json["status"] == "completed"
        assert client.get(f"/queue/{made.json['id']}").json["id"] == made.json["id"]
        assert {job["id"] for job in client.get("/queue").json["data"]} == {made.json["id"], now.json["id"]}
        assert client.get("/write").status == 405
        bad = client.post("/write", {"promt": "Hello."})
        assert bad.status == 400 and "promt" in bad.error["message"]
        named = server.client().post("/write", {"prompt": "Hello.", "userId": unique(), "userTier": "tier3"})
        assert named.status == 202 and named.json["plan"] == "tier3"
        server.stop()


def test_SD7_prices_of_litellm_become_prices_here(tmp_path):
    table = tmp_path / "prices.json"
    table.write_text(json.dumps({
        "gpt-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07,
                     "output_cost_per_token": 6e-07, "input_cost_per_token_flex": 1e-07},
        "other/x": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06}}))
    done = turnpike("prices", "import", table, "--provider", "openai=quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'prices:\n  quick:\n    "gpt-mini": {input_per_million: 0.15, output_per_million: 0.6}\n'
    assert "`input_cost_per_token_flex` has no counterpart" in done.stderr and "1 models" in done.stderr
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(two_at_a_time()) + done.stdout)
    checked = turnpike("check", "--config", config)
    assert checked.returncode == 0, checked.stderr
    unknown = turnpike("prices", "import", table, "--provider", "opnai")
    assert unknown.returncode == 1 and "did you mean `openai`" in unknown.stderr
    assert turnpike("prices", "import", table).returncode == 2, "whose prices is to be said"
