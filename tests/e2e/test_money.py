"""B1: what a plan promises of quotas and cost is held before it is used, under any concurrency and across a kill -9."""

import concurrent.futures
import csv
import http.client
import io

import pytest

from gateway import meter, on_plan, usage, verified
from support import Client, Events, Server, configuration, sandbox, unique, until

HELLO = [{"role": "user", "content": "Hello."}]
CALLS = 1000
PAID = 37
ROUNDS = 10


def priced(admission="fast", latency="0s"):
    """A cap that pays for exactly 37 calls at a tenth of a dollar each."""
    return configuration(
        providers={"quick": sandbox(latency, concurrency=64), "broken": sandbox(faults={"transient": "100%"}),
                   "costly": sandbox(faults={"transient": {"share": "100%", "bills": True}})},
        models={"writer": ("text", "quick"), "wreck": ("text", "broken"), "sink": ("text", "costly")},
        prices={"quick": {"default": {"per_request": "0.10"}}, "costly": {"default": {"per_request": "0.10"}}},
        content_types=["blog", "social"],
        flags={"editor": {"plans": ["small"]}, "beta": {"share": "0%", "accounts": ["ada"]}},
        plans={
            "capped": {"priority_class": "standard", "admission": admission,
                       "cost_cap": {"monthly_usd": "3.79", "hard_stop": True}},
            "tight": {"priority_class": "standard", "quotas": {"jobs": 5},
                      "cost_cap": {"monthly_usd": "0.25", "hard_stop": True}},
            "warned": {"priority_class": "standard", "cost_cap": {"monthly_usd": "0.20", "hard_stop": False}},
            "small": {"priority_class": "low", "quotas": {"jobs": 2}, "upgrade_to": "capped", "period": "day"},
            "writers": {"priority_class": "low", "content_types": ["blog"], "quotas": {"blog": 1}},
            "slow": {"priority_class": "low", "rates": {"rpm": 60, "burst": 2}},
        })


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("money"), priced()) as running:
        yield running


def call_once(port, account):
    client = Client(port, account=account)
    try:
        return client.post("/v1/chat/completions", {"model": "writer", "messages": HELLO})
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()


def crowd(server, account, calls=CALLS):
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        return list(pool.map(lambda _: call_once(server.port, account), range(calls)))


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_B1_a_cap_that_pays_for_37_calls_lets_37_of_1000_through(server, round_):
    client = on_plan(server, "capped")
    answers = crowd(server, client.account)
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == PAID and statuses.count(429) == CALLS - PAID
    refused = next(answer for answer in answers if answer.status == 429)
    error = refused.error
    assert error["type"] == "insufficient_quota" and refused.headers["x-should-retry"] == "false"
    assert error["turnpike"]["code"] == "cost_cap_reached" and error["turnpike"]["limit"] == "3.79"
    cost = usage(client)["cost"]
    assert cost == {"used_usd": "3.7", "held_usd": "0", "cap_usd": "3.79", "hard_stop": True}
    verified(server)


def test_B1_never_a_38th_across_a_kill(tmp_path):
    with Server(tmp_path, priced("durable", latency="30ms")) as server:
        client = on_plan(server, "capped")
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            waiting = [pool.submit(call_once, server.port, client.account) for _ in range(200)]
            until(lambda: {usage(client)["cost"][name] for name in ("held_usd", "used_usd")} != {"0"}, "calls are under way")
            server.kill()
            before = [answer for answer in (each.result() for each in waiting) if answer and answer.status == 200]
        server.start()
        after = [answer for answer in crowd(server, client.account, 200) if answer and answer.status == 200]
        assert len(before) + len(after) <= PAID
        client = server.client(account=client.account)
        cost = usage(client)["cost"]
        assert float(cost["used_usd"]) <= 3.79 and cost["held_usd"] == "0"
        assert float(cost["used_usd"]) >= (len(before) + len(after)) * 0.1 - 1e-9, "each that was answered is charged"
        verified(server)


def test_B1_what_was_answered_before_its_charge_was_durable_is_charged_after_a_kill(tmp_path):
    with Server(tmp_path, priced("fast")) as server:
        client = on_plan(server, "capped")
        answered = [call_once(server.port, client.account) for _ in range(20)]
        server.kill()  # with the last charge on its way
        assert all(answer.status == 200 for answer in answered)
        server.start()
        cost = usage(server.client(account=client.account))["cost"]
        assert cost == {"used_usd": "2", "held_usd": "0", "cap_usd": "3.79", "hard_stop": True}
        verified(server)


def test_CR3_a_quota_refuses_with_what_to_do_and_a_failed_job_gives_its_count_back(server):
    client = on_plan(server, "small")
    first = client.submit("text", {"prompt": "one"})
    client.completed(first["id"])
    failed = client.submit("text", {"prompt": "two"}, model="wreck", max_attempts=1)
    assert client.ended(failed["id"])["status"] == "failed" and meter(client, "jobs")["used"] == 1
    client.completed(client.submit("text", {"prompt": "two again"})["id"])
    refused = client.post("/api/jobs", {"task": "text", "input": {"prompt": "three"}})
    error = refused.error
    assert refused.status == 403 and error["code"] == "quota_exceeded" and refused.headers["x-should-retry"] == "false"
    assert (error["meter"], error["limit"], error["used"], error["held"], error["wanted"]) == ("jobs", 2, 2, 0, 1)
    assert error["upgrade_to"] == "capped" and error["resets_at"] == usage(client)["period"]["resets_at"]
    assert meter(client, "jobs")["remaining"] == 0, "a refusal changes no counter"


def test_a_failed_job_gives_its_count_back_and_what_was_billed_stays_charged(server):
    client = on_plan(server, "tight")
    failed = client.ended(client.submit("text", {"prompt": "one"}, model="sink", max_attempts=2)["id"])
    assert failed["status"] == "failed" and failed["attempt"] == 2 and failed["cost_usd"] == "0.2"
    assert meter(client, "jobs")["used"] == 0 and meter(client, "jobs")["held"] == 0
    assert usage(client)["cost"] == {"used_usd": "0.2", "held_usd": "0", "cap_usd": "0.25", "hard_stop": True}
    report = server.client().get(f"/api/admin/costs?by=plan,provider&user={client.account}").json["data"][0]
    assert (report["provider"], report["cost_usd"], report["completed"]) == ("costly", "0.2", 0)
    verified(server)


def test_retries_that_bill_end_where_the_cap_leaves_no_room_for_another(server):
    client = on_plan(server, "tight")
    failed = client.ended(client.submit("text", {"prompt": "one"}, model="sink", max_attempts=10)["id"])
    assert failed["status"] == "failed" and failed["error"]["code"] == "cost_cap_reached"
    assert failed["attempt"] == 2 and failed["cost_usd"] == "0.2"
    assert usage(client)["cost"]["used_usd"] == "0.2" and meter(client, "jobs")["used"] == 0
    told = client.get(f"/api/jobs/{failed['id']}/why").json
    assert told["now"]["limit"]["meter"] == "cost_usd" and told["now"]["limit"]["used"] == "0.2"
    verified(server)


def test_an_upgrade_acts_at_once_and_keeps_usage(server):
    client = on_plan(server, "small")
    for prompt in ("one", "two"):
        client.completed(client.submit("text", {"prompt": prompt})["id"])
    assert client.post("/api/jobs", {"task": "text", "input": {"prompt": "three"}}).status == 403
    moved = server.client().request("PUT", f"/api/subscription/{client.account}", {"plan": "capped", "reason": "paid"})
    assert moved.status == 200 and moved.json["plan"] == "capped"
    client.completed(client.submit("text", {"prompt": "three"})["id"])
    assert meter(client, "jobs")["used"] == 3


def test_AG10_overrides_and_grants_stack_on_the_plan(server):
    client = on_plan(server, "small")
    admin = server.client()
    account = admin.get(f"/api/subscription/{client.account}").json["account"]
    changed = admin.request("PUT", f"/api/admin/accounts/{account}", {"overrides": {"quotas": {"jobs": 3}}})
    assert changed.status == 200 and changed.json["limits"]["quotas"]["jobs"] == 3
    granted = admin.post(f"/api/admin/accounts/{account}/grants", {"of": "jobs", "amount": 1}, {"Idempotency-Key": "top-up"})
    again = admin.post(f"/api/admin/accounts/{account}/grants", {"of": "jobs", "amount": 1}, {"Idempotency-Key": "top-up"})
    assert granted.status == again.status == 200 and len(again.json["grants"]) == 1
    assert meter(client, "jobs")["limit"] == 4
    grant = granted.json["grants"][0]["id"]
    assert admin.request("DELETE", f"/api/admin/grants/{grant}?account={account}").status == 200
    assert meter(client, "jobs")["limit"] == 3


@pytest.mark.parametrize("body, param", [
    ({"of": "jobs", "amount": -1}, "amount"),
    ({"of": "jobs", "amount": 1.5}, "amount"),
    ({"of": "jobs", "amount": 10**30}, "amount"),
    ({"of": "cost_usd", "amount": 5}, "amount"),
    ({"of": "cost_usd", "amount": "0.0000000001"}, "amount"),
    ({"of": "cats", "amount": 1}, "of"),
    ({"of": "jobs", "amount": 1, "expires_at": 1}, "expires_at"),
    ({"amount": 1}, "of"),
])
def test_a_bad_grant_is_refused_by_its_field(server, body, param):
    client = on_plan(server, "small")
    admin = server.client()
    account = admin.get(f"/api/subscription/{client.account}").json["account"]
    refused = admin.post(f"/api/admin/accounts/{account}/grants", body)
    assert refused.status == 400 and refused.error["param"] == param


@pytest.mark.parametrize("body, param", [
    ({"plan": "golden"}, "plan"),
    ({"time_zone": "Europe/Berlni"}, "time_zone"),
    ({"team": "nobody"}, "team"),
    ({"overrides": {"quotas": {"jobs": -1}}}, "overrides.quotas.jobs"),
    ({"overrides": {"quotas": {"cats": 1}}}, "overrides.quotas.cats"),
    ({"overrides": 5}, "overrides"),
    ({"colour": "blue"}, "colour"),
])
def test_a_bad_change_of_a_subscription_is_refused_by_its_field(server, body, param):
    refused = server.client().request("PUT", f"/api/subscription/{unique()}", body)
    assert refused.status == 400 and refused.error["param"] == param


def test_CR1_content_types_are_counted_and_gated(server):
    client = on_plan(server, "writers")
    client.completed(client.submit("text", {"prompt": "a post"}, content_type="blog")["id"])
    full = client.post("/api/jobs", {"task": "text", "input": {"prompt": "b"}, "content_type": "blog"})
    assert full.status == 403 and full.error["code"] == "quota_exceeded" and full.error["meter"] == "blog"
    absent = client.post("/api/jobs", {"task": "text", "input": {"prompt": "c"}, "content_type": "social"})
    assert absent.status == 403 and absent.error["code"] == "not_in_plan" and "social" in absent.error["message"]


def test_SD4_without_a_hard_stop_it_warns_and_goes_on(server):
    client = on_plan(server, "warned")
    for _ in range(4):
        assert call_once(server.port, client.account).status == 200
    assert usage(client)["cost"]["used_usd"] == "0.4"


def test_SD2_calls_that_come_too_fast_are_refused_and_say_when_to_come_back(server):
    client = on_plan(server, "slow")
    answers = [call_once(server.port, client.account) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
    assert '"requests";q=2;w=60' in answers[0].headers["RateLimit-Policy"]
    assert int(answers[2].headers["Retry-After"]) >= 1
    assert answers[2].error["turnpike"]["meter"] == "requests_per_minute"


def test_SD7_costs_are_reported_by_plan_as_json_and_csv(server):
    client = on_plan(server, "capped")
    answer = call_once(server.port, client.account)
    assert answer.headers["turnpike-cost-usd"] == "0.1"
    admin = server.client()
    report = admin.get(f"/api/admin/costs?by=plan,model,provider&user={client.account}").json
    row = report["data"][0]
    assert (row["plan"], row["model"], row["provider"], row["cost_usd"], row["completed"]) == ("capped", "writer", "quick", "0.1", 1)
    sheet = admin.get(f"/api/admin/usage?by=plan&format=csv&user={client.account}")
    assert sheet.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(sheet.body.decode())))
    assert rows[0]["plan"] == "capped" and rows[0]["calls"] == "1"
    assert admin.get("/api/admin/costs?by=colour").status == 400


def test_CR9_flags_are_on_by_plan_and_by_name(server):
    assert on_plan(server, "small").get("/api/flags").json["flags"] == {"beta": False, "editor": True}
    assert server.client(account="ada").get("/api/flags").json["flags"] == {"beta": True, "editor": False}


def test_thresholds_are_told_once_each(server):
    client = on_plan(server, "small")
    for prompt in ("one", "two"):
        client.completed(client.submit("text", {"prompt": prompt})["id"])
    with Events(client, "/api/events", "evt_0000000000001") as events:
        told = []
        for _, kind, event in events:
            if kind == "usage.threshold":
                told.append(event["data"]["threshold_percent"])
            if len(told) == 3:
                break
    assert told == [50, 80, 100]
