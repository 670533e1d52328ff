"""Server-sent events of one job and of an account, and resuming them."""

from support import Events, unique

TEXT = {"prompt": "Say something."}
END = {"job.completed", "job.failed", "job.cancelled", "job.expired"}


def kinds(events):
    return [kind for _, kind, _ in events]


def test_a_jobs_stream_begins_with_its_state_and_ends_with_it(user):
    job = user.submit("text", TEXT, model="clerk")
    with Events(user, f"/api/jobs/{job['id']}/events") as stream:
        assert stream.status == 200
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        events = list(stream)
    seen = kinds(events)
    assert seen[0] in ("job.queued", "job.started") and seen[-1] == "job.completed"
    assert len(seen) == len(set(seen)), "nothing is told twice"
    last = events[-1][2]
    assert last["specversion"] == "1.0" and last["type"] == "job.completed" and last["subject"] == job["id"]
    assert last["id"] == events[-1][0] and last["source"] and last["time"].endswith("Z")
    assert last["data"]["job"]["status"] == "completed" and last["data"]["job"]["result"]


def test_the_stream_of_an_ended_job_tells_its_end_and_closes(user):
    job = user.completed(user.submit("text", TEXT)["id"])
    with Events(user, f"/api/jobs/{job['id']}/events") as stream:
        events = list(stream)
    assert kinds(events) == ["job.completed"]
    assert events[0][2]["data"]["job"]["id"] == job["id"]


def test_every_end_is_told(user):
    ends = {}
    for model in ("writer", "critic"):
        job = user.submit("text", TEXT, model=model)["id"]
        with Events(user, f"/api/jobs/{job}/events") as stream:
            ends[model] = list(stream)[-1]
    assert ends["writer"][1] == "job.completed" and ends["critic"][1] == "job.failed"
    assert ends["critic"][2]["data"]["job"]["error"]["code"] == "invalid_input"
    running = user.submit("text", TEXT, model="sleeper")["id"]
    with Events(user, f"/api/jobs/{running}/events") as stream:
        events = iter(stream)
        next(events)
        user.delete(f"/api/jobs/{running}")
        assert kinds(list(events))[-1] == "job.cancelled"


def test_an_accounts_stream_tells_of_all_its_jobs_in_order(server, user):
    stranger = server.client(account=unique())
    first = user.submit("text", TEXT)["id"]  # makes the account
    user.completed(first)
    with Events(user, "/api/events") as stream:
        ids = [user.submit("text", TEXT)["id"] for _ in range(3)]
        stranger.submit("text", TEXT)
        told = {job: [] for job in ids}
        for event_id, kind, event in stream:
            assert event["subject"] in told, "another account's job is not told of"
            assert event_id.startswith("evt_")
            told[event["subject"]].append(kind)
            if all(END & set(seen) for seen in told.values()):
                break
    for seen in told.values():
        assert seen == ["job.queued", "job.started", "job.completed"] or seen == ["job.started", "job.completed"], seen
    stranger.close()


def test_a_stream_is_resumed_after_the_last_event_seen(user):
    user.completed(user.submit("text", TEXT)["id"])
    with Events(user, "/api/events") as stream:
        ids = [user.submit("text", TEXT)["id"] for _ in range(4)]
        seen = []
        for event_id, kind, event in stream:
            seen.append((event_id, kind, event["subject"]))
            if sum(kind in END for _, kind, _ in seen) == len(ids):
                break
    assert [event_id for event_id, _, _ in seen] == sorted({event_id for event_id, _, _ in seen})
    for cut in (0, len(seen) // 2, len(seen) - 2):
        with Events(user, "/api/events", last_event_id=seen[cut][0]) as stream:
            again = []
            for event_id, kind, event in stream:
                again.append((event_id, kind, event["subject"]))
                if len(again) == len(seen) - cut - 1:
                    break
        assert again == seen[cut + 1:], "nothing is missed and nothing is told twice"


def test_a_jobs_stream_is_resumed(server, user):
    blocker = server.client(account=unique())
    blocker.submit("text", TEXT, model="clerk")  # so that the job waits, and its start is still to be told
    job = user.submit("text", TEXT, model="clerk")["id"]
    with Events(user, f"/api/jobs/{job}/events") as stream:
        events = [event for event in stream if event[0]]
    assert kinds(events) == ["job.started", "job.completed"]
    with Events(user, f"/api/jobs/{job}/events", last_event_id=events[0][0]) as stream:
        assert [event[0] for event in stream] == [events[1][0]]
    answer = user.get(f"/api/jobs/{job}/events", **{"Last-Event-ID": events[1][0]})
    assert answer.status == 204, "all was told: an EventSource need not come back"
    blocker.close()


def test_a_garbled_last_event_id_is_refused(user):
    answer = user.get("/api/events", **{"Last-Event-ID": "evt_nothing"})
    assert answer.status == 400 and answer.error["param"] == "Last-Event-ID"


def test_a_reader_that_leaves_disturbs_nobody(server, user):
    job = user.submit("text", TEXT, model="clerk")["id"]
    for _ in range(20):
        with Events(user, f"/api/jobs/{job}/events") as stream:
            assert stream.status == 200
    assert user.completed(job)["status"] == "completed"
