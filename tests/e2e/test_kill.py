"""B3: killed at any instant, nothing acknowledged is lost and nothing completed runs again."""

import collections
import http.client
import shutil
import sqlite3
import threading

from support import Client, Events, Server, Upstream, configuration, unique, until

JOBS = 500
KILLS = 10
PROCESSING, COMPLETED = 2, 3  # engine::JobState, as the journal has it


def read_journal(server, folder):
    """State by job id (a number) of what is on disk. A copy is read: looking must not mend."""
    folder.mkdir()
    for path in server.data.glob("journal.db*"):
        shutil.copy(path, folder)
    with sqlite3.connect(folder / "journal.db") as journal:
        return dict(journal.execute("SELECT id, state FROM jobs"))


class Submitter(threading.Thread):
    """Submits all jobs, whatever happens to the server: what was not acknowledged is sent again under the same key."""

    def __init__(self, server, account):
        super().__init__(daemon=True)
        self.server = server
        self.account = account
        self.ids = {}  # number -> job id, of what was acknowledged
        self.trouble = None
        self.give_up = threading.Event()

    def run(self):
        try:
            for number in range(JOBS):
                self.submit(number)
        except Exception as trouble:  # told by the test's own thread
            self.trouble = trouble

    def submit(self, number):
        body = {"task": "text", "input": {"prompt": str(number)}, "model": "parrot"}
        while not self.give_up.is_set():
            client = Client(self.server.port, account=self.account)
            try:
                answer = client.post("/api/jobs", body, {"Idempotency-Key": f"job {number}"})
            except (OSError, http.client.HTTPException):
                self.give_up.wait(0.01)
                continue
            finally:
                client.close()
            assert answer.status == 202, answer
            self.ids[number] = answer.json["id"]
            return


def completions(client, count):
    """How often each job's completion was told, in all events since the first."""
    told = collections.Counter()
    last = "evt_0000000000001"
    while sum(told.values()) < count:
        with Events(client, "/api/events", last_event_id=last) as stream:
            for event_id, kind, event in stream:
                last = event_id
                if kind == "job.completed":
                    told[event["subject"]] += 1
                if sum(told.values()) >= count:
                    break
    return told


def test_B3_five_hundred_jobs_and_ten_kills(tmp_path):
    with Upstream(latency_s=0.02) as upstream:
        config = configuration(
            providers={"parrot": {"kind": "openai", "base_url": upstream.url, "concurrency": 8}},
            models={"parrot": ("text", "parrot")},
            plans={"tier1": {"priority_class": "low", "limits": {"concurrent_jobs": "unlimited"}}})
        with Server(tmp_path / "server", config) as server:
            account = unique()
            submitter = Submitter(server, account)
            submitter.start()
            cut_off = collections.Counter()  # job -> at how many kills it ran
            try:
                for kill in range(1, KILLS + 1):
                    until(lambda at=kill: len(upstream.asked) >= at * JOBS // (KILLS + 1), f"the way to kill {kill}")
                    server.kill()
                    states = read_journal(server, tmp_path / f"journal{kill}")
                    cut_off.update(job for job, state in states.items() if state == PROCESSING)
                    server.start()
                submitter.join(60)
            finally:
                submitter.give_up.set()
            assert submitter.trouble is None and len(submitter.ids) == JOBS
            assert len(set(submitter.ids.values())) == JOBS, "each was submitted once, however often it was sent"
            client = server.client(account=account)
            until(lambda: not client.get("/api/jobs?limit=1&status=queued").json["data"]
                  and not client.get("/api/jobs?limit=1&status=processing").json["data"], "the last job")
            jobs = client.jobs()
            assert {job["id"] for job in jobs} == set(submitter.ids.values()), "nothing acknowledged is lost"
            assert {job["status"] for job in jobs} == {"completed"}
            assert {job["attempt"] for job in jobs} == {1}, "what a kill cuts off is no attempt"
            for job in jobs:
                assert job["result"]["output"]["text"].startswith("You said: ")
            told = completions(client, JOBS)
            assert told == dict.fromkeys(submitter.ids.values(), 1), "each is completed once"
            server.stop()
            states = read_journal(server, tmp_path / "journal-end")
            assert len(states) == JOBS and set(states.values()) == {COMPLETED}
        asked = collections.Counter(upstream.asked)
        assert set(asked) == {str(number) for number in range(JOBS)}
        repeats = sum(asked.values()) - JOBS
        assert cut_off, "each kill found something running"
        assert repeats <= sum(cut_off.values()), "only what ran at a kill is run again"
        again = {number for number, count in asked.items() if count > 1}
        assert len(again) <= len(cut_off)
