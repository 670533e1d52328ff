"""The life of a job: submitted, queued in order, run, retried, cancelled, expired, listed, explained."""

import time

from support import WAIT_SECONDS, unique, until

TEXT = {"prompt": "Say something."}


def started_order(server, ids):
    """Ids in the order in which the server logged their starts."""
    for job in ids:
        server.logged("job.started", job=job)
    seen = [line["job"] for line in server.log("job.started") if line["job"] in ids]
    return list(dict.fromkeys(seen))


def block(server, model):
    """Takes the only slot of the model's pool for a moment; returns the job that has it."""
    client = server.client(account=unique("blocker"))
    job = client.submit("text", TEXT, model=model, userTier="tier4")
    client.close()
    return job["id"]


def submit_behind(server, model, plans):
    """Submits one job for each plan in this order while the pool is taken; (id, plan) of each."""
    made = []
    for plan in plans:
        client = server.client(account=unique(plan))
        made.append((client.submit("text", TEXT, model=model, userTier=plan)["id"], plan))
        client.close()
    return made


def test_a_job_is_answered_at_once_and_completes(user):
    answer = user.post("/api/jobs", {"task": "text", "input": TEXT, "metadata": {"order": "7"}})
    assert answer.status == 202
    job = answer.json
    assert job["object"] == "job" and job["id"].startswith("job_") and job["account"].startswith("acct_")
    assert job["user_id"] == user.account and job["plan"] == "tier1" and job["priority_class"] == "low"
    assert job["status"] in ("queued", "processing", "completed")
    assert abs(job["created_at"] - time.time()) < WAIT_SECONDS
    done = user.completed(job["id"])
    assert done["result"]["output"]["sandbox"] is True
    assert done["result"]["output"]["text"]
    assert done["result"]["artifacts"] == []
    assert done["model"] == {"id": "writer", "version": "1", "provider": "quick"}
    assert done["usage"]["tokens_out"] > 0
    assert done["attempt"] == 1 and done["error"] is None and done["queue"] is None
    assert done["metadata"] == {"order": "7"}
    assert done["progress"]["percent"] == 100
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


def test_a_job_is_the_same_in_the_list_and_by_its_id(user):
    job = user.completed(user.submit("text", TEXT)["id"])
    listed = user.jobs()
    assert [entry["id"] for entry in listed] == [job["id"]]
    assert listed[0]["status"] == "completed" and listed[0]["result"] == job["result"]


def test_lists_are_paged_and_filtered(user):
    ids = [user.submit("text", TEXT)["id"] for _ in range(5)]
    waiting = user.submit("text", TEXT, run_at=int(time.time()) + 3600)["id"]
    for job in ids:
        user.completed(job)
    newest_first = [waiting, *reversed(ids)]
    first = user.get("/api/jobs?limit=4").json
    assert first["object"] == "list" and first["has_more"] is True
    assert [job["id"] for job in first["data"]] == newest_first[:4]
    rest = user.get(f"/api/jobs?limit=4&starting_after={newest_first[3]}").json
    assert rest["has_more"] is False and [job["id"] for job in rest["data"]] == newest_first[4:]
    before = user.get(f"/api/jobs?limit=2&ending_before={newest_first[4]}").json
    assert [job["id"] for job in before["data"]] == newest_first[2:4]
    assert [job["id"] for job in user.jobs("&status=scheduled")] == [waiting]
    assert {job["id"] for job in user.jobs("&status=completed&task=text")} == set(ids)
    assert user.jobs("&task=speech") == []


def test_ST1_a_request_names_its_users_plan(server):
    for plan, word in (("tier1", "low"), ("tier2", "standard"), ("tier3", "high"), ("tier4", "critical")):
        client = server.client(account=unique())
        job = client.submit("text", TEXT, userTier=plan)
        assert (job["plan"], job["priority_class"]) == (plan, word)
        assert client.submit("text", TEXT)["plan"] == plan, "the plan stays the account's"
        client.close()


def test_ST1_the_plan_may_stand_in_videoConfig(server):
    client = server.client(account=unique())
    job = client.submit("text", TEXT, videoConfig={"userTier": "tier3"})
    assert job["plan"] == "tier3"
    assert client.submit("text", TEXT, userTier="tier2", videoConfig={"userTier": "tier4"})["plan"] == "tier2"
    client.close()


def test_ST1_an_account_runs_no_more_than_its_plan_allows(user):
    ids = [user.submit("text", TEXT, model="sleeper")["id"] for _ in range(4)]
    user.reached(ids[1], "processing")
    states = [user.job(job) for job in ids]
    assert [job["status"] for job in states] == ["processing", "processing", "queued", "queued"]
    assert [job["queue"]["waiting_for"] for job in states[2:]] == ["concurrency_limit"] * 2
    assert user.delete(f"/api/jobs/{ids[0]}").status == 200
    user.reached(ids[2], "processing")  # the freed slot is taken by the next
    assert user.job(ids[3])["status"] == "queued"
    for job in ids[1:]:
        assert user.delete(f"/api/jobs/{job}").status == 200


def test_ST2_over_the_limit_a_job_waits_and_is_never_refused(user):
    ids = [user.submit("text", TEXT, model="hermit")["id"] for _ in range(30)]
    for job in ids:
        user.completed(job)


def test_ST3_higher_tiers_start_first(server):
    first = block(server, "clerk")
    made = submit_behind(server, "clerk", ["tier1", "tier2", "tier3", "tier4"])
    ids = [job for job, _ in made]
    assert started_order(server, [first, *ids]) == [first, *reversed(ids)]


def test_ST3_a_lower_tier_still_gets_its_turn(server):
    block(server, "hermit")
    low = submit_behind(server, "hermit", ["tier1"] * 2)
    high = submit_behind(server, "hermit", ["tier4"] * 60)
    order = started_order(server, [job for job, _ in low + high])
    assert order.index(low[0][0]) < len(order) - 2, "5 % of the pool's time is a low job's, whatever waits above"


def test_ST6_each_start_is_logged(server, user):
    job = user.submit("text", TEXT, userTier="tier3")
    line = server.logged("job.started", job=job["id"])
    assert line["plan"] == "tier3" and line["priority"] == 3 and line["task"] == "text"
    assert line["active"] == 1 and line["limit"] == 10


def test_JS1_the_position_in_the_queue_counts_down(user):
    running = [user.submit("text", TEXT, model="sleeper")["id"] for _ in range(2)]
    waiting = [user.submit("text", TEXT, model="sleeper")["id"] for _ in range(3)]
    user.reached(running[1], "processing")
    for expected, next_to_leave in ((3, running[0]), (2, running[1]), (1, waiting[0])):
        until(lambda at=expected: user.job(waiting[2])["queue"]["position"] == at, f"position {expected}")
        low, high = user.job(waiting[2])["queue"]["eta_seconds"]
        assert 0 <= low <= high
        user.delete(f"/api/jobs/{next_to_leave}")
    assert user.reached(waiting[2], "processing")["queue"]["position"] == 0
    for job in waiting[1:]:
        user.delete(f"/api/jobs/{job}")
    assert user.job(waiting[2])["queue"] is None


def test_JS1_positions_are_those_of_the_order(server):
    client = server.client(account=unique())
    running = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(2)]
    waiting = [client.submit("text", TEXT, model="sleeper")["id"] for _ in range(3)]
    client.reached(running[1], "processing")
    queues = [client.job(job)["queue"] for job in waiting]
    assert [queue["position"] for queue in queues] == [1, 2, 3]
    assert [queue["ahead_in_account"] for queue in queues] == [0, 1, 2]
    urgent = client.submit("text", TEXT, model="sleeper", priority=5)["id"]
    assert client.job(urgent)["queue"]["position"] == 1, "its own priority puts it first"
    assert [client.job(job)["queue"]["position"] for job in waiting] == [2, 3, 4]
    for job in [*waiting, urgent, *running]:
        client.delete(f"/api/jobs/{job}")
    client.close()


def test_JS7_a_scheduled_job_waits_for_its_time(user):
    due = int(time.time()) + 2
    job = user.submit("text", TEXT, run_at=due)
    assert job["status"] == "scheduled" and job["run_at"] == due
    assert job["queue"]["waiting_for"] == "schedule"
    assert user.completed(job["id"])["started_at"] >= due


def test_JS7_failures_are_tried_again_with_backoff_and_then_end(user):
    job = user.ended(user.submit("text", TEXT, model="wreck")["id"])
    assert job["status"] == "failed" and job["attempt"] == 3
    assert job["error"]["code"] == "transient" and job["error"]["provider"] == "broken"
    assert job["result"] is None
    why = user.get(f"/api/jobs/{job['id']}/why").json
    assert [entry["what"] for entry in why["history"]].count("attempt_failed") >= 2
    assert "retry_scheduled" in [entry["what"] for entry in why["history"]]


def test_a_failure_that_cannot_succeed_is_not_tried_again(user):
    job = user.ended(user.submit("text", TEXT, model="critic")["id"])
    assert job["status"] == "failed" and job["attempt"] == 1 and job["error"]["code"] == "invalid_input"


def test_a_request_chooses_its_own_attempts(user):
    job = user.submit("text", TEXT, model="wreck", max_attempts=2, backoff={"base_s": 0.01, "cap_s": 0.02})
    assert job["max_attempts"] == 2
    assert user.ended(job["id"])["attempt"] == 2


def test_an_attempt_that_takes_too_long_times_out(user):
    job = user.submit("text", TEXT, model="sleeper", timeout_s=1, max_attempts=1)
    ended = user.ended(job["id"])
    assert ended["status"] == "failed" and ended["error"]["code"] == "timeout"


def test_a_failed_job_can_be_queued_again(user):
    job = user.ended(user.submit("text", TEXT, model="wreck", max_attempts=1)["id"])
    again = user.post(f"/api/jobs/{job['id']}/retry")
    assert again.status == 202 and again.json["id"] == job["id"]
    assert user.ended(job["id"])["status"] == "failed"
    done = user.completed(user.submit("text", TEXT)["id"])
    refused = user.post(f"/api/jobs/{done['id']}/retry")
    assert refused.status == 409 and refused.error["code"] == "conflict"


def test_cancel_ends_a_waiting_job_at_once(user):
    job = user.submit("text", TEXT, run_at=int(time.time()) + 3600)
    answer = user.delete(f"/api/jobs/{job['id']}")
    assert answer.status == 200 and answer.json["status"] == "cancelled"
    again = user.delete(f"/api/jobs/{job['id']}")
    assert again.status == 409 and again.error["code"] == "conflict"


def test_cancel_interrupts_a_running_job(user):
    job = user.submit("text", TEXT, model="sleeper")
    user.reached(job["id"], "processing")
    assert user.delete(f"/api/jobs/{job['id']}").json["status"] == "cancelled"
    after = user.submit("text", TEXT, model="sleeper")
    user.reached(after["id"], "processing")
    assert user.delete(f"/api/jobs/{after['id']}").status == 200


def test_a_full_queue_refuses_and_says_when_to_come_back(user):
    ids = [user.submit("text", TEXT, model="sleeper", userTier="shallow")["id"] for _ in range(3)]
    refused = user.post("/api/jobs", {"task": "text", "input": TEXT, "model": "sleeper"})
    assert refused.status == 429 and refused.error["code"] == "queue_full"
    assert int(refused.headers["Retry-After"]) >= 1
    assert len(user.jobs()) == 3
    assert user.delete(f"/api/jobs/{ids[2]}").status == 200
    ids.append(user.submit("text", TEXT, model="sleeper")["id"])
    for job in ids:
        user.delete(f"/api/jobs/{job}")


def test_a_job_that_waited_too_long_expires(user):
    running = user.submit("text", TEXT, model="sleeper", userTier="hasty")
    waiting = user.submit("text", TEXT, model="sleeper")
    assert user.ended(waiting["id"])["status"] == "expired"
    assert user.job(running["id"])["status"] == "processing"
    user.delete(f"/api/jobs/{running['id']}")


def test_a_dedupe_key_gives_back_the_live_job(user, server):
    job = user.submit("text", TEXT, model="sleeper", dedupe_key="once")
    assert user.submit("text", TEXT, model="sleeper", dedupe_key="once")["id"] == job["id"]
    other = server.client(account=unique())
    mine = other.submit("text", TEXT, dedupe_key="once")["id"]
    assert mine != job["id"], "a key is its account's own"
    other.close()
    user.delete(f"/api/jobs/{job['id']}")
    assert user.submit("text", TEXT, dedupe_key="once")["id"] != job["id"], "an ended job frees its key"


def test_a_task_that_the_plan_has_not_is_refused(server):
    client = server.client(account=unique())
    refused = client.post("/api/jobs", {"task": "text", "input": TEXT, "userTier": "mute"})
    assert refused.status == 403 and refused.error["code"] == "not_in_plan"
    assert refused.headers["x-should-retry"] == "false"
    assert refused.error["upgrade_to"] in ("hasty", "shallow", "tier1")
    client.close()


def test_B5_why_tells_in_words_and_fields(user):
    running = [user.submit("text", TEXT, model="sleeper")["id"] for _ in range(2)]
    waiting = user.submit("text", TEXT, model="sleeper")["id"]
    user.reached(running[1], "processing")
    why = user.get(f"/api/jobs/{waiting}/why").json
    assert why["object"] == "why" and why["job"] == waiting
    assert "2" in why["summary"] and "tier1" in why["summary"]
    assert why["now"]["account"] == {"running": 2, "limit": 2, "waiting": 1}
    assert why["now"]["queue"]["waiting_for"] == "concurrency_limit"
    assert why["history"][0]["what"] == "submitted"
    started = user.get(f"/api/jobs/{running[0]}/why").json
    assert started["history"][-1]["what"] == "started" and started["history"][-1]["limit"] == 2
    for job in [waiting, *running]:
        user.delete(f"/api/jobs/{job}")


def test_a_job_that_is_not_there_is_not_found(user):
    for path in ("/api/jobs/job_0000000000001", "/api/jobs/nothing", "/api/jobs/job_0000000000001/why"):
        answer = user.get(path)
        assert answer.status == 404 and answer.error["code"] == "not_found"
