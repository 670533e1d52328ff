"""Idempotency-Key on POST: what was admitted is replayed, and done once."""

import threading

from support import Server, unique

TEXT = {"prompt": "Say something."}
BODY = {"task": "text", "input": TEXT}


def key(value):
    return {"Idempotency-Key": value}


def test_a_repeated_post_is_replayed_and_done_once(user):
    once = unique("once")
    first = user.post("/api/jobs", BODY, key(once))
    assert first.status == 202 and "Idempotent-Replayed" not in first.headers
    user.completed(first.json["id"])
    again = user.post("/api/jobs", BODY, key(once))
    assert again.status == 202 and again.headers["Idempotent-Replayed"] == "true"
    assert again.json == first.json, "the answer as it was, whatever became of the job"
    assert len(user.jobs()) == 1


def test_another_body_under_the_same_key_is_refused(user):
    once = unique("once")
    assert user.post("/api/jobs", BODY, key(once)).status == 202
    answer = user.post("/api/jobs", {**BODY, "priority": 3}, key(once))
    assert answer.status == 422 and answer.error["code"] == "idempotency_mismatch"
    assert len(user.jobs()) == 1


def test_a_key_is_scoped_to_its_account_and_path(server, user):
    once = unique("once")
    mine = user.post("/api/jobs", BODY, key(once)).json["id"]
    other = server.client(account=unique())
    assert other.post("/api/jobs", BODY, key(once)).json["id"] != mine
    assert user.post("/api/tickets", None, key(once)).status == 201
    other.close()


def test_a_refusal_is_not_stored(user):
    once = unique("once")
    assert user.post("/api/jobs", {**BODY, "priority": "x"}, key(once)).status == 400
    assert user.post("/api/jobs", BODY, key(once)).status == 202, "the mistake was mended under the same key"


def test_a_full_queue_is_not_stored(user):
    once = unique("once")
    ids = [user.submit("text", TEXT, model="sleeper", userTier="shallow")["id"] for _ in range(3)]
    body = {**BODY, "model": "sleeper"}
    assert user.post("/api/jobs", body, key(once)).status == 429
    for job in ids:
        user.delete(f"/api/jobs/{job}")
    answer = user.post("/api/jobs", body, key(once))
    assert answer.status == 202 and "Idempotent-Replayed" not in answer.headers
    user.delete(f"/api/jobs/{answer.json['id']}")


def test_many_at_once_make_one_job(server):
    name, once = unique(), unique("once")
    answers = []

    def post():
        client = server.client(account=name)
        answers.append(client.post("/api/jobs", BODY, key(once)))
        client.close()

    threads = [threading.Thread(target=post) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {202, 409}
    assert all(answer.error["code"] == "idempotency_in_flight" for answer in answers if answer.status == 409)
    assert len({answer.json["id"] for answer in answers if answer.status == 202}) == 1
    assert len(server.client(account=name).jobs()) == 1


def test_a_replayed_key_creation_does_not_show_the_secret_again(admin):
    once = unique("once")
    first = admin.post("/api/admin/keys", {"role": "service"}, key(once))
    again = admin.post("/api/admin/keys", {"role": "service"}, key(once))
    assert again.status == 201 and again.json["id"] == first.json["id"]
    assert "key" in first.json and "key" not in again.json


def test_a_completion_is_replayed(user):
    once = unique("once")
    body = {"model": "writer", "messages": [{"role": "user", "content": "Hello."}]}
    first = user.post("/v1/chat/completions", body, key(once))
    again = user.post("/v1/chat/completions", body, key(once))
    assert first.status == 200 and again.headers["Idempotent-Replayed"] == "true" and again.json == first.json
    meters = user.get("/api/subscription/usage").json["meters"]
    assert next(meter["used"] for meter in meters if meter["meter"] == "calls") == 1


def test_a_key_too_long_is_refused(user):
    assert user.post("/api/jobs", BODY, key("x" * 255)).status == 202
    answer = user.post("/api/jobs", BODY, key("x" * 256))
    assert answer.status == 400 and answer.error["param"] == "Idempotency-Key"


def test_a_replay_outlives_the_server(tmp_path, general_config):
    once = unique("once")
    with Server(tmp_path, general_config) as server:
        name = unique()
        first = server.client(account=name).post("/api/jobs", BODY, key(once)).json
        server.kill()
        server.start()
        again = server.client(account=name).post("/api/jobs", BODY, key(once))
        assert again.headers["Idempotent-Replayed"] == "true" and again.json == first
        server.stop()
