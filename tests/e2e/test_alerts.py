"""JS8: alerts by the operator's rules, raised and cleared once each, as events, webhooks and a list."""

import yaml

from support import Server, configuration, sandbox, unique, until
from test_webhooks import Receiver, make

FAULTY = sandbox(faults={"bad_output": "100%"})


def plain(**alerts):
    return configuration(providers={"quick": sandbox(), "slow": sandbox("60s", concurrency=1), "faulty": FAULTY,
                                    "broken": {**FAULTY, "breaker": {"failures": 1, "cool_down": "2s"}}},
                         models={"writer": ("text", "quick"), "sleeper": ("sleep", "slow"), "failure": ("fail", "faulty"),
                                 "away": ("leave", "broken")},
                         webhooks={"allow_private": True, "allow_http": True}, alerts=alerts)


def rules(client):
    answer = client.get("/api/admin/alerts/rules")
    assert answer.status == 200, answer
    return {rule["name"]: rule for rule in answer.json["data"]}


def told(client):
    """The alerts, oldest first: what happened, to which, and what was said of it."""
    answer = client.get("/api/admin/alerts?limit=100")
    assert answer.status == 200, answer
    return [(each["type"], each["data"]["alert"], each["data"]) for each in reversed(answer.json["data"])
            if each["type"].startswith("alert.")]


def names(client):
    return [(kind, name) for kind, name, _ in told(client)]


def test_JS8_a_queue_that_is_too_long_is_told_once_and_its_end_once(tmp_path):
    with Server(tmp_path, plain(queue={"signal": "queue_length", "over": 2, "within": "1s"})) as server, Receiver() as receiver:
        admin, user = server.client(), server.client(account=unique())
        make(admin, receiver.url(), events=["alert.*"])
        jobs = [user.submit("sleep", {"text": "long"})["id"] for _ in range(4)]
        until(lambda: names(admin) == [("alert.raised", "queue")], "alerts")
        raised = told(admin)[0][2]
        assert raised == {"alert": "queue", "signal": "queue_length", "value": 3, "value_unit": "count", "over": 2,
                          "over_unit": "count", "within_seconds": 1}
        rule = rules(admin)["queue"]
        assert rule["value"] == 3 and rule["raised_at"] > 0 and rule["at_least"] is None
        for job in jobs[1:]:
            assert user.delete(f"/api/jobs/{job}").status == 200
        until(lambda: names(admin) == [("alert.raised", "queue"), ("alert.cleared", "queue")], "alerts")
        assert told(admin)[1][2]["raised_at"] == rule["raised_at"] and told(admin)[1][2]["reason"] is None
        assert rules(admin)["queue"]["raised_at"] is None
        until(lambda: receiver.types() == ["alert.raised", "alert.cleared"], "alerts")
        assert receiver.events()[0]["source"] == "/api/admin/alerts"
        user.delete(f"/api/jobs/{jobs[0]}")


def test_JS8_errors_and_slow_generations_are_shares_of_what_ended(tmp_path):
    alerts = {"errors": {"signal": "error_rate", "over": "1%", "at_least": 3},
              "slow": {"signal": "generation_time", "over": "1ms", "at_least": 3},
              "never": {"signal": "generation_time", "over": "1h", "at_least": 1}}
    config = plain(**alerts)
    config["providers"]["quick"] = sandbox("50ms")
    with Server(tmp_path, config) as server:
        admin, user = server.client(), server.client(account=unique())
        for _ in range(3):
            user.completed(user.submit("text", {"prompt": "a"})["id"])
        until(lambda: names(admin) == [("alert.raised", "slow")], "alerts")
        failed = user.submit("fail", {"text": "a"})["id"]
        assert user.ended(failed)["status"] == "failed"
        until(lambda: names(admin) == [("alert.raised", "slow"), ("alert.raised", "errors")], "alerts")
        assert told(admin)[1][2]["value"] == 25


def test_JS8_an_upstream_that_is_down_is_named(tmp_path):
    with Server(tmp_path, plain(down={"signal": "upstream_down", "within": "1s"})) as server:
        admin, user = server.client(), server.client(account=unique())
        user.submit("leave", {"text": "a"})
        until(lambda: names(admin)[:1] == [("alert.raised", "down")], "alerts")
        assert told(admin)[0][2]["upstreams"] == ["broken"]


def test_JS8_cost_storage_bandwidth_and_connections_are_seen(tmp_path):
    alerts = {"disk": {"signal": "storage", "over": "0%", "within": "1s"},
              "wire": {"signal": "bandwidth", "over": "1KiB", "within": "1s"}, "open": {"signal": "connections", "over": 0, "within": "1s"},
              "bill": {"signal": "cost", "over": "0.15"}}
    config = plain(**alerts)
    config["prices"] = {"quick": {"default": {"per_request": "0.10"}}}
    with Server(tmp_path, config) as server:
        admin, user = server.client(), server.client(account=unique())
        user.completed(user.submit("text", {"prompt": "a"})["id"])
        until(lambda: rules(admin)["bill"]["value"] == 0.1, "alerts")
        assert rules(admin)["bill"]["raised_at"] is None
        user.completed(user.submit("text", {"prompt": "b"})["id"])
        # The question itself is what goes over the wire.
        until(lambda: {name for _, name in names(admin)} == {"disk", "wire", "open", "bill"}, "alerts")
        assert rules(admin)["bill"]["value"] == 0.2 and rules(admin)["open"]["value"] >= 2


def test_JS8_an_alert_outlives_a_kill_and_ends_with_its_rule(tmp_path):
    rule = {"signal": "queue_length", "over": 0, "within": "1s"}
    with Server(tmp_path, plain(queue=rule)) as server:
        user = server.client(account=unique())
        for _ in range(2):
            user.submit("sleep", {"text": "long"})
        until(lambda: names(server.client()) == [("alert.raised", "queue")], "alerts")
        raised_at = rules(server.client())["queue"]["raised_at"]
        server.kill()
        server.start()
        assert rules(server.client())["queue"]["raised_at"] == raised_at
        applied = server.client().post("/api/admin/policy/apply", yaml.safe_dump(plain()).encode())
        assert applied.status == 200, applied
        until(lambda: names(server.client()) == [("alert.raised", "queue"), ("alert.cleared", "queue")], "alerts")
        assert told(server.client())[1][2]["reason"] == "removed"
