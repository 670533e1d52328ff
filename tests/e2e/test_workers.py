"""Providers of kind pull: own workers claim jobs, say that they are at it, and report; what is lost is done by another."""

import http.client
import json
import threading

import pytest

from support import Server, configuration, sandbox, unique, until

LEASE_S = 1  # short, for those that are meant to be lost; others beat
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00"
                    "010501012718e3660000000049454e44ae426082")


def config():
    pull = {"kind": "pull", "lease": f"{LEASE_S}s"}
    patient = {"kind": "pull", "lease": "1m"}
    return configuration(
        providers={"own": patient, "hasty": pull, "narrow": {**patient, "claims": 1}, "slow": {**patient, "timeout": "1s"},
                   "small": {**patient, "file_size": "1KiB"}, "paid": patient, "spare": patient,
                   "quick": sandbox(), "words": patient},
        models={"smith": ("forge", {"provider": "own", "model": "smith"}), "hare": ("race", "hasty"), "thread": ("sew", "narrow"),
                "snail": ("crawl", "slow"), "mouse": ("squeak", "small"), "writer": ("text", "quick"), "clerk": ("text", {"provider": "paid", "model": "clerk"}),
                "poet": ("text", "words")},
        plans={"tier1": {"priority_class": "low", "limits": {"concurrent_jobs": 20, "dispatch_batch": 3}}},
        prices={"paid": {"clerk": {"input_per_million": 0, "output_per_million": 1000}}})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("workers"), config()) as running:
        yield running


class Worker:
    """A worker's key, and what it says."""

    def __init__(self, server, **owner):
        with_admin = server.client()
        made = with_admin.post("/api/admin/keys", {"role": "worker", **owner})
        assert made.status == 201, made
        with_admin.close()
        self.server = server
        self.key = made.json["key"]
        self.client = server.client(self.key)

    def ask(self, *providers, wait_s=20, **more):
        body = {"wait_s": wait_s, **more}
        if providers:
            body["providers"] = list(providers)
        return self.client.post("/api/work/claim", body)

    def claim(self, *providers, **more):
        answer = self.ask(*providers, **more)
        assert answer.status == 200, answer
        return answer.json["data"]

    def one(self, *providers, **more):
        works = self.claim(*providers, max=1, **more)
        assert len(works) == 1, works
        return works[0]

    def say(self, work, what, **body):
        return self.client.post(f"/api/work/{work['id']}/{what}", body)

    def complete(self, work, **body):
        answer = self.say(work, "complete", **body)
        assert answer.status == 200, answer
        return answer.json


@pytest.fixture
def worker(server):
    made = Worker(server)
    yield made
    made.client.close()


def in_thread(call):
    """Runs it beside the test; gives a function that waits for what came."""
    came = []
    thread = threading.Thread(target=lambda: came.append(call()), daemon=True)
    thread.start()

    def result():
        thread.join(30)
        assert came, "nothing came within 30 s"
        return came[0]
    return result


def test_a_worker_claims_beats_and_completes(server, user, worker):
    job = user.submit("forge", {"metal": "iron", "n": 1.5})
    waiting = user.job(job["id"])
    assert waiting["status"] == "queued" and waiting["queue"]["position"] == 1
    assert waiting["queue"]["waiting_for"] == "provider_limit"
    assert "No worker waits" in user.get(f"/api/jobs/{job['id']}/why").json["summary"]
    work = worker.one("own")
    assert work["job"] == job["id"] and work["task"] == "forge" and work["input"] == {"metal": "iron", "n": 1.5}
    assert work["model"] == "smith" and work["lease_s"] == 60 and work["timeout_s"] == 20 and work["files"] == []
    assert user.job(job["id"])["status"] == "processing"
    assert worker.say(work, "heartbeat").json == {"object": "work", "id": work["id"], "cancelled": False, "lease_s": 60}
    assert worker.say(work, "progress", percent=40, message="hot").status == 200
    told = until(lambda: user.job(job["id"])["progress"]["percent"] and user.job(job["id"]), "progress")
    assert told["progress"] == {"percent": 40, "message": "hot"}
    worker.complete(work, output={"blade": 1}, usage={"images": 2, "tokens_in": 7})
    ended = user.job(job["id"])  # it is so once the worker has been told
    assert ended["status"] == "completed" and ended["result"]["output"] == {"blade": 1}
    assert ended["usage"]["images"] == 2 and ended["usage"]["tokens_in"] == 7
    assert ended["attempt"] == 1 and ended["model"]["provider"] == "own"


def test_a_claim_that_waits_is_answered_when_work_comes(server, user, worker):
    waiting = in_thread(lambda: worker.one("own"))
    until(lambda: claims_at(server, "own") == 1, "the claim")
    job = user.submit("forge", {})
    work = waiting()
    assert work["job"] == job["id"]
    worker.complete(work)
    assert user.job(job["id"])["result"]["output"] == {}


def claims_at(server, provider):
    admin = server.client()
    found = [each for each in admin.get("/api/admin/providers").json["data"] if each["name"] == provider]
    admin.close()
    return found[0].get("claims", 0)


def test_nothing_comes_within_the_time(worker):
    assert worker.claim("own", wait_s=0) == []
    assert worker.claim(wait_s=0) == []


def test_a_hand_holds_one_accounts_jobs_up_to_its_dispatch_batch(server, worker):
    users = [server.client(account=unique()) for _ in range(2)]
    submitted = [[user.submit("forge", {"n": n})["id"] for n in range(5)] for user in users]
    hands = []
    while sum(len(hand) for hand in hands) < 10:
        hands.append(worker.claim("own"))
    assert sorted(len(hand) for hand in hands) == [2, 2, 3, 3]
    for hand in hands:
        jobs = [work["job"] for work in hand]
        assert any(set(jobs) <= set(of_one) for of_one in submitted), jobs
    # Both are served before either is served again.
    assert {hands[0][0]["job"] in of_one for of_one in submitted} == {True, False}
    assert (hands[0][0]["job"] in submitted[0]) != (hands[1][0]["job"] in submitted[0])
    for hand in hands:
        for work in hand:
            worker.complete(work, output={"n": work["input"]["n"]})
    for user, ids in zip(users, submitted):
        assert [user.job(job)["result"]["output"]["n"] for job in ids] == list(range(5))


def test_max_bounds_a_hand(user, worker):
    for n in range(3):
        user.submit("forge", {"n": n})
    hand = worker.claim("own", max=2)
    assert [work["input"]["n"] for work in hand] == [0, 1]
    for work in hand + worker.claim("own"):
        worker.complete(work)


def test_a_lost_worker_is_noticed_and_another_does_its_work(server, user, worker):
    job = user.submit("race", {}, max_attempts=1)
    lost = worker.one("hasty")
    other = Worker(server)
    found = other.one("hasty")  # once the lease has run out
    assert found["job"] == job["id"] and found["id"] != lost["id"]
    for what, body in (("complete", {"output": {"by": "lost"}}), ("heartbeat", {}), ("progress", {"percent": 1}),
                       ("fail", {"message": "x"})):
        late = worker.say(lost, what, **body)
        assert late.status == 409 and late.error["code"] == "conflict", late
        assert "lease" in late.error["message"]
    other.complete(found, output={"by": "other"})
    ended = user.completed(job["id"])
    assert ended["result"]["output"] == {"by": "other"} and ended["attempt"] == 1
    why = user.get(f"/api/jobs/{job['id']}/why").json
    assert [entry["what"] for entry in why["history"]].count("try_lost") == 1


def test_heartbeats_keep_work_beyond_its_lease(user, worker):
    job = user.submit("race", {})
    work = worker.one("hasty")
    stop = threading.Event()
    timer = threading.Timer(2.5 * LEASE_S, stop.set)
    timer.start()
    until(lambda: worker.say(work, "heartbeat").status == 200 and stop.is_set(), "two leases and a half")
    worker.complete(work, output={"kept": True})
    assert user.completed(job["id"])["result"]["output"] == {"kept": True}


def test_a_worker_of_one_account_has_its_work_alone(server):
    mine, other = unique(), unique()
    own = Worker(server, user_id=mine)
    mine, other = server.client(account=mine), server.client(account=other)
    foreign = other.submit("forge", {"of": "other"})
    assert own.claim("own", wait_s=0) == []
    waiting = in_thread(lambda: own.one("own"))
    until(lambda: claims_at(server, "own") == 1, "the claim")
    job = mine.submit("forge", {"of": "mine"})
    work = waiting()
    assert work["job"] == job["id"]
    anybodys = Worker(server)
    theirs = anybodys.one("own")
    assert theirs["job"] == foreign["id"]
    # One worker's work is no other's.
    for what, body in (("heartbeat", {}), ("complete", {}), ("fail", {"message": "x"})):
        assert own.say(theirs, what, **body).status == 409
        assert anybodys.say(work, what, **body).status == 409
    assert own.client.get(f"/api/work/{theirs['id']}/input?file=0").status == 409
    anybodys.complete(theirs)
    own.complete(work)


def test_a_cancelled_job_is_told_to_its_worker(user, worker):
    job = user.submit("forge", {})
    work = worker.one("own")
    assert user.delete(f"/api/jobs/{job['id']}").json["status"] == "cancelled"
    until(lambda: worker.say(work, "heartbeat").json["cancelled"], "the cancellation at the worker")
    assert worker.say(work, "progress", percent=3).json["cancelled"] is True
    late = worker.say(work, "complete", output={})
    assert late.status == 409 and "cancelled" in late.error["message"]
    assert user.job(job["id"])["status"] == "cancelled"


def test_a_failure_is_retried_or_final_as_its_class_says(user, worker):
    job = user.submit("forge", {})
    work = worker.one("own")
    assert worker.say(work, "fail", message="the oven is cold", retry_after=0.01).status == 200
    again = worker.one("own")
    assert again["job"] == job["id"] and user.job(job["id"])["attempt"] == 2
    assert worker.say(again, "fail", message="no such metal", **{"class": "invalid_input"}).status == 200
    ended = user.job(job["id"])
    assert ended["status"] == "failed" and ended["error"]["code"] == "invalid_input"
    assert "no such metal" in ended["error"]["message"]
    assert worker.say(again, "complete", output={}).status == 409


def test_work_that_takes_longer_than_the_attempt_ends_by_timeout(user, worker):
    job = user.submit("crawl", {}, max_attempts=1)
    work = worker.one("slow")
    assert work["timeout_s"] == 1
    ended = user.ended(job["id"])
    assert ended["status"] == "failed" and ended["error"]["code"] == "timeout"
    late = worker.say(work, "complete", output={})
    assert late.status == 409 and "time was up" in late.error["message"]


def test_files_go_in_and_out(server, user, worker):
    uploaded = user.post("/api/artifacts", PNG, {"Content-Type": "image/png"})
    assert uploaded.status == 201, uploaded
    job = user.submit("forge", {"image": uploaded.json["id"]})
    work = worker.one("own")
    assert [(file["field"], file["mime"]) for file in work["files"]] == [("image", "image/png")]
    fetched = worker.client.get(work["files"][0]["url"])
    assert fetched.status == 200 and fetched.body == PNG and fetched.headers["Content-Type"] == "image/png"
    assert worker.client.get(f"/api/work/{work['id']}/input?file=1").status == 404
    path = f"/api/work/{work['id']}/files?name=picture"
    wrong = worker.client.post(path, b"no picture", {"Content-Type": "image/png"})
    assert wrong.status == 400 and wrong.error["param"] == "Content-Type"
    kept = worker.client.post(path, PNG, {"Content-Type": "image/png"})
    assert kept.status == 201 and kept.json == {"object": "work_file", "name": "picture", "mime": "image/png",
                                               "bytes": len(PNG)}
    assert worker.client.post(f"/api/work/{work['id']}/files", b"words", {"Content-Type": "text/plain"}).status == 201
    worker.complete(work, output={"made": 2})
    artifacts = user.completed(job["id"])["result"]["artifacts"]
    assert [artifact["mime"] for artifact in artifacts] == ["image/png", "text/plain"]
    assert user.get(artifacts[0]["url"]).body == PNG
    assert worker.client.post(path, PNG, {"Content-Type": "image/png"}).status == 409


def test_a_file_over_its_providers_limit_is_refused(user, worker):
    user.submit("squeak", {})
    work = worker.one("small")
    refused = worker.client.post(f"/api/work/{work['id']}/files", b"x" * 2000, {"Content-Type": "text/plain"})
    assert refused.status == 413, refused
    worker.complete(work)


def test_what_it_used_is_charged_and_without_a_word_what_was_held(user, worker):
    told, silent = (user.submit("text", {"prompt": "x", "max_tokens": 100}, model="clerk")["id"] for _ in range(2))
    for work in worker.claim("paid", max=2):
        worker.complete(work, output={"text": "y"},
                        **({"usage": {"tokens_in": 3, "tokens_out": 10}} if work["job"] == told else {}))
    assert float(user.completed(told)["cost_usd"]) == 0.01
    assert float(user.completed(silent)["cost_usd"]) == 0.1


def test_a_call_waits_for_its_worker(server, user, worker):
    answer = in_thread(lambda: user.post("/v1/chat/completions", {
        "model": "poet", "max_tokens": 20, "messages": [{"role": "user", "content": "a line"}]}))
    work = worker.one("words")
    assert work["task"] == "text" and work["input"]["messages"] == [{"role": "user", "content": "a line"}]
    worker.complete(work, output={"text": "roses are red", "finish_reason": "stop"},
                    usage={"tokens_in": 5, "tokens_out": 3})
    reply = answer()
    assert reply.status == 200, reply
    assert reply.json["choices"][0]["message"]["content"] == "roses are red"
    assert reply.json["usage"]["total_tokens"] == 8 and reply.headers["turnpike-provider"] == "words"


def test_as_many_claims_wait_as_may(server, user, worker):
    waiting = in_thread(lambda: worker.one("narrow"))
    until(lambda: claims_at(server, "narrow") == 1, "the claim")
    second = Worker(server).ask("narrow", wait_s=0)
    assert second.status == 429 and int(second.headers["Retry-After"]) >= 1, second
    assert second.error["param"] == "providers" and "claims" in second.error["message"]
    user.submit("sew", {})
    worker.complete(waiting())


def test_who_leaves_while_it_waits_loses_nothing(server, user, worker):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/api/work/claim", json.dumps({"providers": ["spare"], "wait_s": 60}),
                       {"Authorization": f"Bearer {worker.key}", "Content-Type": "application/json"})
    until(lambda: claims_at(server, "spare") == 1, "the claim")
    connection.close()
    until(lambda: claims_at(server, "spare") == 0, "its end")


BAD_CLAIMS = [
    ({"providers": []}, "providers"), ({"providers": "own"}, "providers"), ({"providers": ["own", "own"]}, "providers"),
    ({"providers": ["onw"]}, "providers"), ({"providers": ["quick"]}, "providers"), ({"providers": [1]}, "providers"),
    ({"providers": ["own"] * 33}, "providers"), ({"max": 0}, "max"), ({"max": 1001}, "max"), ({"max": "2"}, "max"),
    ({"wait_s": -1}, "wait_s"), ({"wait_s": 61}, "wait_s"), ({"wait_s": 1.5}, "wait_s"), ({"tasks": ["x"]}, "tasks"),
]


@pytest.mark.parametrize("body,param", BAD_CLAIMS, ids=[json.dumps(body)[:40] for body, _ in BAD_CLAIMS])
def test_a_bad_claim_names_its_field(worker, body, param):
    answer = worker.client.post("/api/work/claim", {"wait_s": 0, **body})
    assert answer.status == 400 and answer.error["param"] == param, answer


BAD_REPORTS = [
    ("complete", {"output": []}, "output"), ("complete", {"output": "x"}, "output"),
    ("complete", {"usage": []}, "usage"), ("complete", {"usage": {"images": -1}}, "usage.images"),
    ("complete", {"usage": {"images": "1"}}, "usage.images"), ("complete", {"usage": {"images": 1.5}}, "usage.images"),
    ("complete", {"usage": {"imgaes": 1}}, "usage.imgaes"), ("complete", {"usage": {"jobs": 1}}, "usage.jobs"),
    ("complete", {"result": {}}, "result"), ("fail", {}, "message"), ("fail", {"message": ""}, "message"),
    ("fail", {"message": "x" * 501}, "message"), ("fail", {"message": "x", "class": "odd"}, "class"),
    ("fail", {"message": "x", "retry_after": -1}, "retry_after"), ("fail", {"message": "x", "usage": {"x": 1}}, "usage.x"),
    ("progress", {}, "percent"), ("progress", {"percent": 101}, "percent"), ("progress", {"percent": "5"}, "percent"),
    ("progress", {"percent": 5, "message": 7}, "message"), ("heartbeat", {"alive": True}, "alive"),
]


def test_a_bad_report_names_its_field_and_changes_nothing(user, worker):
    job = user.submit("forge", {})
    work = worker.one("own")
    for what, body, param in BAD_REPORTS:
        answer = worker.say(work, what, **body)
        assert answer.status == 400 and answer.error["param"] == param, (what, body, answer)
    path = f"/api/work/{work['id']}/files"
    for query, body, kind, param in (("?name=a/b", b"x", "text/plain", "name"), ("?title=x", b"x", "text/plain", "title"),
                                     ("", b"x", "text/html", "Content-Type"), ("", b"", "text/plain", "body")):
        answer = worker.client.post(path + query, body, {"Content-Type": kind})
        assert answer.status == 400 and answer.error["param"] == param, (query, answer)
    assert user.job(job["id"])["status"] == "processing"
    worker.complete(work, output={"at": "last"})
    assert user.completed(job["id"])["result"]["output"] == {"at": "last"}


def test_work_that_nobody_knows(worker):
    assert worker.client.post("/api/work/nonsense/heartbeat", {}).status == 404
    assert worker.client.post("/api/work/try_01J8QZ5N7M3R2/heartbeat", {}).status == 409


def test_a_claim_is_not_replayed(worker):
    answer = worker.client.post("/api/work/claim", {"wait_s": 0}, {"Idempotency-Key": unique()})
    assert answer.status == 400 and answer.error["param"] == "Idempotency-Key"


def test_a_report_is_replayed(user, worker):
    user.submit("forge", {})
    work = worker.one("own")
    key = {"Idempotency-Key": unique()}
    first = worker.client.post(f"/api/work/{work['id']}/complete", {"output": {}}, key)
    again = worker.client.post(f"/api/work/{work['id']}/complete", {"output": {}}, key)
    assert first.status == again.status == 200 and again.headers["Idempotent-Replayed"] == "true"


def test_only_workers_and_admins_work(server, admin, user):
    for role in ("service", "account"):
        made = admin.post("/api/admin/keys", {"role": role, **({"user_id": unique()} if role == "account" else {})})
        client = server.client(made.json["key"])
        for path in ("/api/work/claim", "/api/work/try_01J8QZ5N7M3R2/complete"):
            answer = client.post(path, {})
            assert answer.status == 403 and answer.error["code"] == "forbidden", (role, answer)
    nobody = server.client(key=None)
    assert nobody.post("/api/work/claim", {}).status == 401
    refused = admin.post("/api/admin/keys", {"role": "admin", "user_id": "x"})
    assert refused.status == 400 and refused.error["param"] == "account"
    user.submit("forge", {})
    claimed = admin.post("/api/work/claim", {"providers": ["own"]})
    assert claimed.status == 200, claimed
    for work in claimed.json["data"]:
        assert admin.post(f"/api/work/{work['id']}/complete", {}).status == 200


def test_killed_while_a_worker_holds_work_nothing_doubles(tmp_path):
    with Server(tmp_path, config()) as server:
        worker = Worker(server)
        user = server.client(account="u")
        jobs = [user.submit("forge", {"n": n}, max_attempts=1)["id"] for n in range(3)]
        held = worker.claim("own")
        assert [work["job"] for work in held] == jobs
        worker.complete(held[0], output={"by": "first"})
        server.kill()
        server.start()
        worker.client, user = server.client(worker.key), server.client(account="u")
        late = worker.say(held[1], "complete", output={"by": "late"})
        assert late.status == 409, late
        found = worker.claim("own")
        assert [work["job"] for work in found] == jobs[1:]
        for work in found:
            worker.complete(work, output={"by": "second"})
        assert [user.completed(job)["result"]["output"]["by"] for job in jobs] == ["first", "second", "second"]
        assert [user.job(job)["attempt"] for job in jobs] == [1, 1, 1]
        assert worker.claim("own", wait_s=0) == []


def test_a_server_that_stops_ends_claims_and_hands_work_back(tmp_path):
    with Server(tmp_path, {**config(), "server": {"drain_timeout": "1s"}}) as server:
        worker = Worker(server)
        user = server.client(account="u")
        job = user.submit("forge", {})
        work = worker.one("own")
        idle = Worker(server)
        waiting = in_thread(lambda: idle.claim("own", wait_s=60))
        until(lambda: claims_at(server, "own") == 1, "the claim")
        server.stop()
        assert waiting() == []
        server.start()
        worker.client, user = server.client(worker.key), server.client(account="u")
        again = worker.one("own")
        assert again["job"] == job["id"] and again["id"] != work["id"]
        worker.complete(again)
        assert user.completed(job["id"])["attempt"] == 1
