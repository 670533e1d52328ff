"""New versions and voices in providers' lists are noticed, recorded and told; who pins a version never moves (SD10, SD11)."""

import pytest
import yaml
from gateway import KEYS, on_plan, remote, serve
from support import ROOT, Events, Server, Upstream, until
from test_webhooks import Receiver, make

TEXT = {"prompt": "a word about rivers", "max_tokens": 8}


def version(number):
    return {"version": number, "routes": [{"provider": "cloud", "model": f"parrot-{number}"}]}


def watched(upstream, **more):
    return {
        "accounts": {"default_plan": "newest"},
        "providers": {"cloud": remote(upstream, watch={"every": "1h"}), "spare": {"kind": "sandbox"}},
        "models": {"parrot": {"task": "text", "versions": [version("2.0.0"), version("1.0.0")], "default": "2.0.0",
                              "discover": [{"provider": "cloud", "match": "parrot-{version}"}]}},
        "plans": {"newest": {}, "minor": {"models": {"policy": "allow_minor"}}, "held": {"models": {"policy": "pinned"}},
                  "brave": {"models": {"visibility": {"beta": True, "unverified": True}}}},
        **more,
    }


def listing(upstream, *names):
    upstream.forget()
    upstream.rule(path="/models", status=200, body={"object": "list", "data": [
        {"id": name, "object": "model", "created": 1_760_000_000} for name in names]})


def look(server, provider=None, status=200):
    answer = server.client().post("/api/admin/models/watch", {"provider": provider} if provider else {})
    assert answer.status == status, answer
    return answer.json["data"][0] if status == 200 else answer.error


def looked(server):
    """The look with which a start begins is over."""
    return until(lambda: server.client().get("/api/admin/models/watch").json["data"][0]["looks"] >= 1, "the first look")


def parrots(server):
    models = {model["id"]: model for model in server.client().get("/api/admin/models").json["data"]}
    return {each["version"]: each["status"] for each in models["parrot"]["versions"]}


def served(client, **fields):
    job = client.completed(client.submit("text", TEXT, **fields)["id"])
    return job["model"]["version"]


def discovered(server):
    """What was told, by the ids of the entries."""
    return [alert["data"]["id"] for alert in server.client().get("/api/admin/alerts").json["data"]
            if alert["type"] == "model.discovered"]


@pytest.fixture
def cloud():
    with Upstream() as upstream:
        listing(upstream, "parrot-2.0.0", "parrot-1.0.0", "whisper-1")
        yield upstream


@pytest.fixture
def server(tmp_path, cloud):
    with serve(tmp_path, watched(cloud)) as running:
        looked(running)
        yield running


def test_SD10_a_new_version_is_told_and_waits_for_its_approval(server, cloud):
    newest, minor, held, brave = (on_plan(server, plan) for plan in ("newest", "minor", "held", "brave"))
    assert parrots(server) == {"2.0.0": "approved", "1.0.0": "approved"} and discovered(server) == []
    listing(cloud, "parrot-3.0.0", "parrot-2.1.0", "parrot-2.0.0", "parrot-1.0.0", "whisper-1")
    with Events(server.client(), "/api/events") as events:
        assert look(server)["discovered"] == 3, "with whisper-1, which the first look had"
        _, kind, told = next(iter(events))
    assert kind == told["type"] == "model.discovered" and told["source"] == "/api/admin/models"
    assert told["data"] == {"provider": "cloud", "kind": "model", "id": "parrot-3.0.0", "name": None, "model": "parrot",
                            "version": "3.0.0", "status": "discovered"}
    assert parrots(server) == {"3.0.0": "discovered", "2.1.0": "discovered", "2.0.0": "approved", "1.0.0": "approved"}
    assert {served(client) for client in (newest, minor, held, brave)} == {"2.0.0"}
    refused = newest.post("/api/jobs", {"task": "text", "input": TEXT, "model": "parrot@3.0.0"})
    assert refused.status == 403 and refused.error["code"] == "model_not_allowed", refused

    approve = server.client().post("/api/admin/models/parrot/status", {"version": "3.0.0", "status": "approved"})
    assert approve.status == 200, approve
    assert (served(newest), served(minor), served(held)) == ("3.0.0", "2.0.0", "2.0.0")
    server.client().post("/api/admin/models/parrot/status", {"version": "2.1.0", "status": "approved"})
    assert (served(newest), served(minor), served(held)) == ("3.0.0", "2.1.0", "2.0.0")
    assert [record["model"] for record in cloud.requests(path="/v1/chat/completions")][-3:] == [
        "parrot-3.0.0", "parrot-2.1.0", "parrot-2.0.0"]


def test_SD10_what_was_told_once_is_not_told_again(server, cloud):
    listing(cloud, "parrot-2.1.0", "parrot-2.0.0")
    look(server)
    server.client().post("/api/admin/models/parrot/status", {"version": "2.1.0", "status": "approved"})
    newest = on_plan(server, "newest")
    assert discovered(server) == ["parrot-2.1.0"] and served(newest) == "2.1.0"
    server.kill()
    server.start()
    looked(server)
    look(server)
    assert discovered(server) == ["parrot-2.1.0"]
    assert parrots(server) == {"2.1.0": "approved", "2.0.0": "approved", "1.0.0": "approved"}
    assert served(server.client(account=newest.account)) == "2.1.0"
    audited = [row["subject"] for row in server.client().get("/api/admin/audit").json["data"]
               if row["action"] == "model.discovered"]
    assert audited == ["parrot@2.1.0"]


def test_a_list_that_fails_changes_nothing_and_is_logged_once(server, cloud):
    for bad in ({"status": 500, "body": "sk-of-the-upstream is no good"}, {"status": 200, "body": "<html>"},
                {"status": 200, "body": {"data": None}}, {"fault": "reset"}):
        cloud.forget()
        cloud.rule(path="/models", **bad)
        assert look(server)["error"], bad
    state = look(server)
    assert (state["failed"], state["discovered"], state["entries"]) == (5, 1, 3)
    server.logged("model_watch.failed")
    assert len(server.log("model_watch.failed")) == 1 and KEYS["UPSTREAM_KEY"] not in server.output()
    assert parrots(server) == {"2.0.0": "approved", "1.0.0": "approved"} and discovered(server) == []
    metrics = server.client().get("/metrics").body.decode()
    assert 'turnpike_model_watch_failing{provider="cloud"} 1' in metrics
    assert 'turnpike_model_watch_failures_total{provider="cloud"} 5' in metrics
    listing(cloud, "parrot-2.2.0")
    state = look(server)
    assert state["error"] is None and discovered(server) == ["parrot-2.2.0"]
    server.logged("model_watch.recovered")
    assert len(server.log("model_watch.recovered")) == 1


def test_the_list_is_asked_with_the_providers_key_and_not_while_it_is_paused(server, cloud):
    assert {record["key"] for record in cloud.requests(path="/v1/models")} == {KEYS["UPSTREAM_KEY"]}
    asked = len(cloud.requests(path="/v1/models"))
    server.client().post("/api/admin/providers/cloud/pause", {"paused": True})
    assert look(server, "cloud", 409)["code"] == "conflict"
    look(server)  # of all that can be asked
    assert look(server, "spare", 404)["param"] == "provider" and look(server, "nobody", 404)
    assert len(cloud.requests(path="/v1/models")) == asked


def test_a_rule_that_comes_later_finds_what_was_found_before(tmp_path, cloud):
    config = watched(cloud)
    rule = config["models"]["parrot"].pop("discover")
    with serve(tmp_path, config) as server:
        looked(server)
        listing(cloud, "parrot-9.0.0", "parrot-2.0.0")
        look(server)
        listed = server.client().get("/api/admin/models/discoveries?matched=false").json["data"]
        assert [(each["id"], each["model"], each["status"]) for each in listed] == [
            ("parrot-9.0.0", None, "discovered"), ("whisper-1", None, "discovered")]
        assert discovered(server) == ["parrot-9.0.0"], "what the first look had is no news"
        config["models"]["parrot"]["discover"] = rule
        applied = server.client().post("/api/admin/policy/apply", yaml.safe_dump(config).encode())
        assert applied.status == 200, applied
        assert parrots(server)["9.0.0"] == "discovered"
        page = server.client().get("/api/admin/models/discoveries?limit=1").json
        assert page["has_more"] and page["data"][0] | {"found_at": 0} == {
            "object": "discovery", "number": page["data"][0]["number"], "provider": "cloud", "kind": "model",
            "id": "parrot-9.0.0", "name": None, "released": "2025-10-09", "found_at": 0, "model": "parrot", "version": "9.0.0",
            "status": "discovered"}
        rest = server.client().get(f"/api/admin/models/discoveries?starting_after={page['data'][0]['number']}").json
        assert [each["id"] for each in rest["data"]] == ["whisper-1"] and not rest["has_more"]


def test_SD10_voices_are_found_too(tmp_path, cloud):
    cloud.forget()
    cloud.rule(path="/voices", status=200, body={"voices": [{"voice_id": "v1", "name": "Ada"}]})
    cloud.rule(path="/models", status=200, body=[{"model_id": "eleven_v3", "name": "Eleven v3"}])
    config = watched(cloud)
    config["providers"]["cloud"]["watch"] = {"list": "elevenlabs", "url": cloud.url}
    with serve(tmp_path, config) as server:
        looked(server)
        assert discovered(server) == []
        cloud.rule(path="/voices", status=200, body={"voices": [{"voice_id": "v1", "name": "Ada"},
                                                                {"voice_id": "v2", "name": "Grace"}]})
        look(server, "cloud")
        assert discovered(server) == ["v2"]
        listed = server.client().get("/api/admin/models/discoveries?kind=voice").json["data"]
        assert [(each["id"], each["name"]) for each in listed] == [("v2", "Grace"), ("v1", "Ada")]
        assert cloud.requests(path="/v1/voices")[0]["headers"]["xi-api-key"] == KEYS["UPSTREAM_KEY"]


def test_SD1_plans_show_what_they_reach(tmp_path):
    with Server(tmp_path, yaml.safe_load((ROOT / "presets/studio.yaml").read_text())) as studio:
        def writer(plan):
            plans = {each["name"]: each for each in studio.client().get("/api/admin/plans").json["data"]}
            return next(each for each in plans[plan]["models"] if each["model"] == "writer")
        assert writer("ENTERPRISE") == {"model": "writer", "task": "text", "policy": "pinned", "pin": "2.0.0",
                                        "version": "2.0.0", "versions": ["2.0.0"]}
        assert writer("FREE")["policy"] == "latest" and writer("FREE")["pin"] is None
        before = writer("FREE")["version"]
        assert before in writer("FREE")["versions"]
        studio.client().post("/api/admin/models/writer/pin", {"plan": "FREE", "version": "2.0.0"})
        assert writer("FREE") == {"model": "writer", "task": "text", "policy": "pinned", "pin": "2.0.0", "version": "2.0.0",
                                  "versions": ["2.0.0"]}


def test_a_change_of_the_policy_is_told(server, cloud):
    config = watched(cloud)
    config["plans"]["another"] = {}
    admin = server.client()

    def apply():
        answer = admin.post("/api/admin/policy/apply", yaml.safe_dump(config).encode(),
                            {"Turnpike-Reason": "one plan more"})
        assert answer.status == 200, answer

    with Events(server.client(), "/api/events") as events:
        told = iter(events)
        apply()
        _, _, applied = next(told)
        assert applied["type"] == "policy.changed" and applied["source"] == "/api/admin/policy"
        assert applied["data"] | {"hash": "", "by": ""} == {"version": 2, "previous": 1, "hash": "", "by": "",
                                                            "reason": "one plan more", "rolled_back_to": None}
        apply()  # what is in force is no change
        assert admin.post("/api/admin/policy/rollback", {"version": 1}).status == 200
        back = next(told)[2]["data"]
        assert (back["version"], back["previous"], back["rolled_back_to"]) == (3, 2, 1)
        assert back["reason"] == "roll back to version 1"
        policy = admin.get("/api/admin/policy").json
        assert (policy["version"], policy["hash"]) == (3, back["hash"])


def test_SD11_webhooks_carry_both(tmp_path, cloud):
    config = watched(cloud, webhooks={"allow_private": True, "allow_http": True})
    with Receiver() as receiver, serve(tmp_path, config) as server:
        looked(server)
        make(server.client(), receiver.url(), events=["model.*", "policy.changed"])
        listing(cloud, "parrot-2.1.0")
        look(server)
        config["plans"]["another"] = {}
        assert server.client().post("/api/admin/policy/apply", yaml.safe_dump(config).encode()).status == 200
        until(lambda: len(receiver.seen) == 2, "two deliveries")
        assert [(event["type"], event["data"].get("id"), event["data"].get("version")) for event in receiver.events()] == [
            ("model.discovered", "parrot-2.1.0", "2.1.0"), ("policy.changed", None, 2)]
