"""What an operator decides while it runs: versions, pins, canaries, the freeze, pauses (SD8, SD9, SD10, SD13)."""

import pytest
import yaml
from support import ROOT, Server, unique, until

TEXT = {"prompt": "a word about rivers", "max_tokens": 8}


def preset():
    config = yaml.safe_load((ROOT / "presets/studio.yaml").read_text())
    del config["providers"]["sandbox"]["faults"]  # no chance in what is looked at here
    return config


@pytest.fixture
def studio(tmp_path):
    with Server(tmp_path, preset()) as running:
        yield running


def served(studio, plan, user=None, **fields):
    client = studio.client(account=user or unique())
    job = client.completed(client.submit("text", TEXT, userTier=plan, **fields)["id"])
    return job["model"]["version"]


def models(studio):
    return {model["id"]: model for model in studio.client().get("/api/admin/models").json["data"]}


def status_of(studio, version):
    return next(each["status"] for each in models(studio)["writer"]["versions"] if each["version"] == version)


def decide(studio, path, body, method="POST"):
    answer = studio.client().request(method, f"/api/admin/{path}", body)
    assert answer.status == 200, answer
    return answer.json


def audited(studio):
    return [(row["action"], row["subject"]) for row in studio.client().get("/api/admin/audit").json["data"]]


def test_SD9_a_freeze_serves_blessed_versions_to_all_and_survives_a_restart(studio):
    before = {plan: served(studio, plan) for plan in ("FREE", "ENTERPRISE")}
    blessed = next(each["version"] for each in models(studio)["writer"]["versions"] if each["status"] == "blessed")
    assert decide(studio, "freeze", {"frozen": True, "reason": "the newest one invents rivers"}, "PUT")["frozen"]
    assert {served(studio, plan) for plan in ("FREE", "PRO", "BUSINESS", "ENTERPRISE")} == {blessed}
    studio.kill()
    studio.start()
    assert studio.client().get("/api/admin/freeze").json["frozen"] is True
    assert served(studio, "FREE") == blessed
    decide(studio, "freeze", {"frozen": False}, "PUT")
    assert {plan: served(studio, plan) for plan in before} == before
    assert ("freeze.begun", "platform") in audited(studio) and ("freeze.lifted", "platform") in audited(studio)


def test_SD10_a_canary_takes_its_share_and_is_approved_or_rolled_back(studio):
    decide(studio, "models/writer/status", {"version": "3.0.0", "status": "beta"})
    newest = served(studio, "FREE")
    assert newest != "3.0.0"
    users = [f"canary-{number}" for number in range(40)]
    canary = {"candidate": "3.0.0", "baseline": newest, "plans": ["FREE"], "share_percent": 50, "canary": "spring"}
    decide(studio, "models/writer/canary", canary)
    sides = {user: served(studio, "FREE", user) for user in users}
    assert 8 <= list(sides.values()).count("3.0.0") <= 32
    assert {user: served(studio, "FREE", user) for user in users[:10]} == {user: sides[user] for user in users[:10]}
    decide(studio, "models/writer/canary", canary | {"share_percent": 100})
    assert {served(studio, "FREE", user) for user in users[:10]} == {"3.0.0"}, "an account keeps its side as the share grows"
    assert served(studio, "ENTERPRISE") == "2.0.0", "pinned plans never move by themselves"
    rolled_back = decide(studio, "models/writer/canary/rollback", {"reason": "worse"})
    assert rolled_back["canaries"] == [] and status_of(studio, "3.0.0") == "unverified"
    assert served(studio, "FREE", users[0]) == newest
    decide(studio, "models/writer/canary", canary)
    decide(studio, "models/writer/canary/approve", {"canary": "spring"})
    assert status_of(studio, "3.0.0") == "approved" and served(studio, "FREE") == "3.0.0"
    assert studio.client().post("/api/admin/models/writer/canary/approve", {}).status == 409


def test_SD10_a_canary_that_does_worse_is_rolled_back_by_itself(tmp_path):
    config = preset()
    config["providers"]["bad"] = {"kind": "sandbox", "faults": {"bad_output": "100%"}}
    routes = config["models"]["writer"]["versions"]
    next(each for each in routes if each["version"] == "3.0.0").update(
        status="beta", routes=[{"provider": "bad", "model": "writer-3.0"}])
    config["plans"]["FREE"]["models"].get("tasks", {}).pop("text", None)
    with Server(tmp_path, config) as studio:
        newest = served(studio, "FREE")
        decide(studio, "models/writer/canary", {"candidate": "3.0.0", "baseline": newest, "plans": ["FREE"],
                                                "share_percent": 100, "canary": "bad", "guard": {"tries_min": 3}})
        client = studio.client(account=unique())
        client.submit("text", TEXT, userTier="FREE", max_attempts=3, backoff={"base_s": 0.01})
        until(lambda: not models(studio)["writer"]["canaries"], "it is rolled back")
        assert status_of(studio, "3.0.0") == "unverified" and served(studio, "FREE") == newest
        row = next(row for row in studio.client().get("/api/admin/audit").json["data"]
                   if row["action"] == "canary.rolled_back")
        assert row["actor"] == "canary:bad" and "3 of 3 tries of 3.0.0 failed" in row["detail"]["reason"]


def test_SD13_an_operator_pins_a_plan_and_lifts_it(studio):
    decide(studio, "models/writer/pin", {"plan": "FREE", "version": "2.0.0"})
    assert served(studio, "FREE") == "2.0.0"
    decide(studio, "models/writer/pin", {"plan": "FREE"})
    assert served(studio, "FREE") == "3.0.0"


def test_a_decision_that_cannot_be_is_refused_and_changes_nothing(studio):
    client = studio.client()
    before = models(studio)

    def refused(path, body, status, param=None):
        answer = client.post(f"/api/admin/{path}", body)
        assert answer.status == status, answer
        if param:
            assert answer.error["param"] == param, answer

    refused("models/nobody/status", {"version": "1", "status": "beta"}, 404)
    refused("models/writer/status", {"version": "9.9", "status": "beta"}, 400, "statuses.writer.9.9")
    refused("models/writer/status", {"version": "2.0.0", "status": "good"}, 400, "status")
    refused("models/writer/status", {"version": "2.0.0", "status": "retired"}, 400, "statuses.writer.2.0.0")
    refused("models/writer/pin", {"plan": "GOLD", "version": "2.0.0"}, 400, "pins.GOLD")
    refused("models/writer/canary", {"candidate": "3.0.0", "baseline": "2.1.0", "plans": ["ENTERPRISE"],
                                     "share_percent": 5}, 400)
    refused("models/writer/canary", {"candidate": "3.0.0", "baseline": "2.1.0", "plans": ["FREE"],
                                     "share_percent": 101}, 400, "share_percent")
    refused("providers/nobody/pause", {"paused": True}, 404)
    refused("providers/sandbox/pause", {"paused": True, "key": "gold"}, 400)
    assert models(studio) == before


def two_providers(tmp_path):
    config = preset()
    config["providers"] |= {"first": {"kind": "sandbox", "concurrency": 1, "latency": {"p50": "300ms", "p99": "300ms"},
                                      "breaker": {"failures": 1, "cool_down": "1h"}},
                            "second": {"kind": "sandbox", "concurrency": 50}}
    config["models"]["drafts"] = {"task": "text", "version": "1", "providers": [{"provider": "first", "model": "m"},
                                                                              {"provider": "second", "model": "m"}]}
    config["plans"]["BUSINESS"]["models"]["tasks"]["text"]["providers"] = ["first", "second"]
    return config


def test_SD8_what_a_provider_fails_the_next_one_serves(tmp_path):
    config = two_providers(tmp_path)
    config["providers"]["first"]["faults"] = {"transient": "100%"}
    with Server(tmp_path, config) as studio:
        client = studio.client(account=unique())
        job = client.completed(client.submit("text", TEXT, model="drafts", userTier="BUSINESS")["id"])
        assert (job["model"]["provider"], job["attempt"]) == ("second", 1)
        why = client.get(f"/api/jobs/{job['id']}/why").json
        assert [entry["what"] for entry in why["history"]].count("fell_back") == 1
        assert why["chosen"]["route"] == ["first", "second"]
        health = {each["name"]: each["health"] for each in studio.client().get("/api/admin/providers").json["data"]}
        assert (health["first"], health["second"]) == ("failing", "ok")


def test_what_waits_for_a_provider_that_is_paused_goes_elsewhere(tmp_path):
    with Server(tmp_path, two_providers(tmp_path)) as studio:
        client = studio.client(account=unique())
        ids = [client.submit("text", TEXT, model="drafts", userTier="BUSINESS")["id"] for _ in range(4)]
        until(lambda: client.job(ids[0])["status"] != "queued", "the first starts")
        paused = decide(studio, "providers/first/pause", {"paused": True, "reason": "its bill"})
        assert paused["health"] == "paused"
        providers = [client.completed(job)["model"]["provider"] for job in ids]
        assert providers.count("second") >= 3 and set(providers[1:]) == {"second"}
        decide(studio, "providers/first/pause", {"paused": False})
        again = client.completed(client.submit("text", TEXT, model="drafts", userTier="BUSINESS")["id"])
        assert again["model"]["provider"] == "first"
        assert [row for row in audited(studio) if row[1] == "first"] == [("provider.resumed", "first"),
                                                                        ("provider.paused", "first")]


def test_JS2_a_limit_of_the_upstream_holds_over_all_its_users(tmp_path):
    config = two_providers(tmp_path)
    config["providers"]["first"] |= {"concurrency": 20, "limit": {"requests": 3, "per": "1h"},
                                     "latency": {"p50": "1ms", "p99": "1ms"}}
    config["models"]["drafts"]["providers"] = [{"provider": "first", "model": "m"}]
    config["plans"]["BUSINESS"]["models"]["tasks"]["text"]["providers"] = ["first"]
    with Server(tmp_path, config) as studio:
        clients = [studio.client(account=unique()) for _ in range(5)]
        ids = [client.submit("text", TEXT, model="drafts", userTier="BUSINESS")["id"] for client in clients]
        until(lambda: [c.job(i)["status"] for c, i in zip(clients, ids)].count("completed") == 3, "three are served")
        waiting = [c.job(i) for c, i in zip(clients, ids) if c.job(i)["status"] == "queued"]
        assert [job["queue"]["waiting_for"] for job in waiting] == ["provider_limit"] * 2
        assert min(job["queue"]["eta_seconds"][0] for job in waiting) > 3000
