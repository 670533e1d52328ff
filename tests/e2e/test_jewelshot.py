"""presets/jewelshot.yaml: an image editor for visitors without a key (JS4, JS5, JS9), and what such visitors may and may not."""

import http.client
import os
import subprocess
import threading
import time

import pytest
import yaml

from media import jpeg_size
from support import ROOT, WAIT_SECONDS, Client, Events, Server, configuration, sandbox, unique, until
from test_image_url import Host

RESULT_BYTES_MAX = 500_000
EDGE_MAX = 1920


class Visitor(Client):
    """Whoever has no key, from an address of this machine."""

    def __init__(self, port, address="127.0.0.1"):
        super().__init__(port, key=None)
        self.address = address
        self.user = f"public:{address}"

    def _connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS, source_address=(self.address, 0))


def preset(**changes):
    """The preset with an upstream that takes more than 15 a minute, and whatever else a test changes."""
    config = yaml.safe_load((ROOT / "presets/jewelshot.yaml").read_text())
    config["providers"]["vips"]["limit"] = {"requests": 1000, "per": "1m"}
    config["pictures"] = {"allow_private": True}  # the tests' own host of pictures
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("jewelshot"), preset()) as running:
        yield running


@pytest.fixture
def visitor(editor):
    client = Visitor(editor.port)
    yield client
    client.close()


def vips(*arguments):
    subprocess.run(["vips", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def grain(tmp_path_factory):
    """A picture of 4000 x 3000 that is all grain: nothing compresses worse."""
    folder = tmp_path_factory.mktemp("grain")
    vips("gaussnoise", folder / "one.v", 4000, 3000, "--mean=128", "--sigma=60")
    vips("copy", folder / "one.v", f"{folder / 'grain.jpg'}[Q=90]")
    return (folder / "grain.jpg").read_bytes()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture of 3000 x 2000 as smooth as most."""
    folder = tmp_path_factory.mktemp("photo")
    vips("perlin", folder / "one.v", 3000, 2000, "--cell-size=200", "--uchar")
    vips("copy", folder / "one.v", f"{folder / 'photo.jpg'}[Q=95]")
    return (folder / "photo.jpg").read_bytes()


@pytest.fixture
def address(photo):
    """Of the photo, at a host as a visitor's own would be."""
    host = Host()
    yield host.serve(photo, Content_Type="image/jpeg")
    host.close()


def upload(editor, user, data):
    """An artifact of the user's, as his application's backend (or the operator, for a visitor) sends it."""
    answer = editor.client(account=user).post("/api/artifacts", data, {"Content-Type": "image/jpeg"})
    assert answer.status == 201, answer
    return answer.json["id"]


def edit(client, **body):
    answer = client.post("/api/ai/edit", {"prompt": "enhance lighting", **body})
    assert answer.status == 200, answer
    return answer.json


def edited(client, **body):
    """The file that comes of it."""
    job = client.completed(edit(client, **body)["id"], 60)
    artifact, = job["result"]["artifacts"]
    file = client.get(artifact["url"])
    assert file.status == 200 and "immutable" in file.headers["Cache-Control"]
    return file.body


# --- JS4


def test_JS4_a_big_picture_is_stored_small(editor, visitor, photo):
    picture = upload(editor, visitor.user, photo)
    plain = edited(visitor, image=picture)
    assert jpeg_size(plain) == (1920, 1280) and len(plain) <= RESULT_BYTES_MAX
    assert len(edited(visitor, image=picture, operations={"compress": {"quality": 40}})) < len(plain)
    assert jpeg_size(edited(visitor, image=picture, operations={"resize": {"width": 300}})) == (300, 200)


def test_JS4_even_grain_fits_into_half_a_megabyte(editor, grain):
    assert len(grain) > 4_000_000
    pro = editor.client(account=unique())
    assert editor.client().request("PUT", f"/api/subscription/{pro.account}", {"plan": "pro"}).status == 200
    answer = pro.post("/api/artifacts", grain, {"Content-Type": "image/jpeg"})
    assert answer.status == 201, answer
    for form in ("jpeg", "webp"):
        file = edited(pro, image=answer.json["id"], operations={"compress": {"format": form}})
        assert 100_000 < len(file) <= RESULT_BYTES_MAX, form
        if form == "jpeg":
            assert max(jpeg_size(file)) <= EDGE_MAX
        else:
            assert file[:4] == b"RIFF" and file[8:12] == b"WEBP"


# --- JS5


def test_JS5_an_edit_is_posted_polled_with_its_position_and_has_a_result(tmp_path, address):
    """One at a time, so that the others see their place in the queue count down."""
    config = preset()
    config["server"]["slots"] = {"local": 1}
    with Server(tmp_path, config) as editor:
        visitor = Visitor(editor.port)
        jobs = [edit(visitor, image_url=address) for _ in range(4)]
        assert [job["status"] for job in jobs[1:]] == ["queued"] * 3
        assert [job["queue"]["position"] for job in jobs[1:]] == [1, 2, 3]
        assert jobs[0]["user_id"] == "public:127.0.0.1" and jobs[0]["plan"] == "free" and jobs[0]["task"] == "image_edit"
        seen = []

        def last():
            job = visitor.job(jobs[3]["id"])
            if job["queue"]:
                seen.append(job["queue"]["position"])
            return job if job["status"] == "completed" else None
        done = until(last, "the last one's end", 60)
        assert seen == sorted(seen, reverse=True) and seen[0] == 3, "it only counts down"
        artifact, = done["result"]["artifacts"]
        assert jpeg_size(visitor.get(artifact["url"]).body) == (1920, 1280)
        with Events(visitor, f"/api/jobs/{edit(visitor, image_url=address)['id']}/events") as pushed:
            assert [kind for _, kind, _ in pushed][-1] == "job.completed"


BAD_EDITS = {
    "no prompt": ({"image": "art_0000000000001"}, "prompt", "missing"),
    "no picture": ({"prompt": "x"}, "image_url", "`image_url` is missing, or `image` is missing"),
    "an empty prompt": ({"prompt": "", "image": "art_0000000000001"}, "prompt", "at least 1 characters"),
    "a prompt too long": ({"prompt": "x" * 2001, "image": "art_0000000000001"}, "prompt", "at most 2000 characters"),
    "a field that is not there": ({"prompt": "x", "image": "art_0000000000001", "imge": 1}, "imge", "not a field"),
    "a quality too high": ({"prompt": "x", "image": "art_0000000000001", "operations": {"compress": {"quality": 81}}},
                           "operations.compress.quality", "at most 80"),
    "a width that is text": ({"prompt": "x", "image": "art_0000000000001", "operations": {"resize": {"width": "wide"}}},
                             "operations.resize.width", "a whole number"),
    "a format that is not made": ({"prompt": "x", "image": "art_0000000000001", "operations": {"compress": {"format": "png"}}},
                                  "operations.compress.format", "one of jpeg, webp"),
}


@pytest.mark.parametrize("name", BAD_EDITS)
def test_JS5_a_body_that_does_not_fit_the_schema_names_its_field(visitor, name):
    body, param, words = BAD_EDITS[name]
    answer = visitor.post("/api/ai/edit", body)
    assert answer.status == 400 and answer.error["code"] == "invalid_request", answer
    assert answer.error["param"] == param and words in answer.error["message"], answer


def test_the_schema_is_of_the_body_without_who_asks(editor, photo):
    backend = editor.client()
    user = unique()
    picture = upload(editor, user, photo)
    job = edit(backend, image=picture, userId=user, userTier="pro")
    assert job["user_id"] == user and job["plan"] == "pro"


# --- Whoever has no key


def public_config(**plan):
    """An endpoint that is public, one that is not, an alias for jobs, and an upstream that never answers."""
    visitors = {"priority_class": "low", "limits": {"concurrent_jobs": 1, "queue_depth": 3}, **plan}
    return configuration(
        providers={"quick": sandbox(), "slow": sandbox("60s", concurrency=50)},
        models={"writer": ("text", "quick"), "sleeper": ("video", "slow")},
        plans={"visitors": visitors},
        endpoints=[
            {"path": "/write", "task": "text", "status": 200, "public": "visitors"},
            {"path": "/film", "task": "video", "status": 200, "public": "visitors"},
            {"path": "/closed", "task": "text"},
            {"path": "/things", "alias": "/api/jobs"},
        ])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("site"), public_config()) as running:
        yield running


def write(client, **more):
    answer = client.post("/write", {"prompt": "Hello.", **more})
    assert answer.status == 200, answer
    return answer.json


def test_a_visitor_sees_what_he_made_and_nobody_elses(site):
    one, other = Visitor(site.port, "127.0.0.1"), Visitor(site.port, "127.0.0.2")
    mine, theirs = write(one), write(other)
    assert (mine["user_id"], theirs["user_id"]) == ("public:127.0.0.1", "public:127.0.0.2")
    assert mine["account"] != theirs["account"]
    one.completed(mine["id"])
    other.completed(theirs["id"])
    for client, job in ((one, theirs), (other, mine), (Visitor(site.port, "127.0.0.3"), mine)):
        for path in (f"/api/jobs/{job['id']}", f"/api/jobs/{job['id']}/why", f"/api/jobs/{job['id']}/events",
                     f"/things/{job['id']}"):
            answer = client.get(path)
            assert answer.status == 404, (client.address, path, answer)
    assert one.get(f"/things/{mine['id']}").json["status"] == "completed"
    assert one.get(f"/api/jobs/{mine['id']}/why").status == 200
    assert write(one)["account"] == mine["account"]
    assert site.client().job(mine["id"])["user_id"] == "public:127.0.0.1", "an admin sees all"


def test_artifacts_are_seen_from_the_address_that_made_them(editor, photo):
    one, other = Visitor(editor.port, "127.0.0.1"), Visitor(editor.port, "127.0.0.2")
    picture = upload(editor, one.user, photo)
    job = one.completed(edit(one, image=picture)["id"], 60)
    url = job["result"]["artifacts"][0]["url"]
    assert one.get(url).status == 200 and other.get(url).status == 404
    answer = other.post("/api/ai/edit", {"prompt": "x", "image": picture})
    assert answer.status == 400 and answer.error["param"] == "image", "another's picture does not exist"


def test_what_is_not_public_takes_a_key(site):
    visitor = Visitor(site.port)
    job = write(visitor)
    for method, path in (("POST", "/closed"), ("POST", "/api/jobs"), ("GET", "/api/jobs"), ("GET", "/things"),
                         ("DELETE", f"/api/jobs/{job['id']}"), ("POST", f"/api/jobs/{job['id']}/retry"),
                         ("POST", "/api/artifacts"), ("POST", "/api/tickets"), ("GET", "/api/events"),
                         ("GET", "/api/subscription/usage"), ("POST", "/v1/chat/completions"), ("GET", "/api/admin/keys")):
        answer = visitor.request(method, path, {"prompt": "x"} if method == "POST" else None)
        assert answer.status == 401 and answer.error["code"] == "invalid_api_key", (method, path, answer)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_without_a_public_endpoint_a_job_takes_a_key(server):
    assert Visitor(server.port).get("/api/jobs/job_0000000000001").status == 401


@pytest.mark.parametrize("header", ["Bearer tp_unknown", "Bearer ", "Basic dHA6dHA=", ""])
def test_a_key_that_is_wrong_makes_nobody_a_visitor(site, header):
    visitor = Visitor(site.port)
    job = write(visitor)
    for method, path in (("POST", "/write"), ("GET", f"/api/jobs/{job['id']}")):
        body = {"prompt": "x"} if method == "POST" else None
        answer = visitor.request(method, path, body, {"Authorization": header})
        assert answer.status == 401 and answer.error["code"] == "invalid_api_key", (method, answer)
    answer = visitor.get(f"/api/jobs/{job['id']}/events?ticket=tkt_unknown")
    assert answer.status == 401, answer


def test_a_key_that_is_good_asks_as_it_always_does(site):
    user = unique()
    job = write(site.client(account=user))
    assert job["user_id"] == user and job["plan"] == "tier1"
    answer = site.client().post("/write", {"prompt": "x"})
    assert answer.status == 400 and answer.error["param"] == "Turnpike-Account", "a service still names its user"


def test_a_visitor_names_nobody(site):
    visitor = Visitor(site.port)
    for more, headers, param in (({"userId": "ada"}, {}, "userId"), ({"user": "ada"}, {}, "user"),
                                 ({}, {"Turnpike-Account": "ada"}, "Turnpike-Account"),
                                 ({"userTier": "tier4"}, {}, "userTier")):
        answer = visitor.post("/write", {"prompt": "x", **more}, headers)
        assert answer.status == 403 and answer.error["param"] == param, answer
    assert site.client(account="ada").jobs() == []


def test_an_application_has_no_users_called_as_visitors_are(site):
    key = site.client().post("/api/admin/keys", {"role": "service"}).json["key"]
    answer = site.client(key, "public:127.0.0.1").post("/write", {"prompt": "x"})
    assert answer.status == 403 and "public:" in answer.error["message"], answer


def test_the_plans_limits_hold_for_an_address(site):
    visitor, other = Visitor(site.port, "127.0.0.5"), Visitor(site.port, "127.0.0.6")
    jobs = [visitor.post("/film", {"scenes": []}) for _ in range(6)]
    statuses = [answer.status for answer in jobs]
    assert statuses == [200] * 4 + [429] * 2, statuses  # one runs, three wait
    refused = jobs[-1]
    assert refused.error["code"] == "queue_full" and int(refused.headers["Retry-After"]) >= 1
    assert visitor.get(refused.error["why_url"]).json["code"] == "queue_full"
    assert other.get(refused.error["why_url"]).status == 404
    assert other.post("/film", {"scenes": []}).status == 200, "another address has its own"
    stats = [job["status"] for job in site.client(account=visitor.user).jobs()]
    assert sorted(stats) == ["processing", "queued", "queued", "queued"]


def test_streams_of_visitors_are_bounded(site):
    visitor = Visitor(site.port, "127.0.0.7")
    job = visitor.post("/film", {"scenes": []}).json
    path = f"/api/jobs/{job['id']}/events"
    streams = [Events(visitor, path) for _ in range(8)]
    assert [stream.status for stream in streams] == [200] * 8
    answer = visitor.get(path)
    assert answer.status == 429 and answer.error["code"] == "concurrency_limited", answer
    for stream in streams:
        stream.connection.close()
    # The server learns that a client left when it next writes or reads: the operator's end of the job ends them all.
    assert site.client().delete(f"/api/jobs/{job['id']}").status == 200
    until(lambda: Events(visitor, path).status == 200, "room again")


def test_an_idempotency_key_is_the_addresses_own(site):
    one, other = Visitor(site.port, "127.0.0.8"), Visitor(site.port, "127.0.0.9")
    key = {"Idempotency-Key": unique()}
    first = one.post("/write", {"prompt": "x"}, key)
    again = one.post("/write", {"prompt": "x"}, key)
    assert again.json["id"] == first.json["id"] and again.headers["Idempotent-Replayed"] == "true"
    theirs = other.post("/write", {"prompt": "x"}, key)
    assert theirs.status == 200 and theirs.json["id"] != first.json["id"] and "Idempotent-Replayed" not in theirs.headers


def test_new_addresses_come_at_a_rate(tmp_path):
    config = public_config()
    config["accounts"]["anonymous_per_minute"] = 1
    with Server(tmp_path, config) as site:
        answers = [Visitor(site.port, f"127.0.1.{i}").post("/write", {"prompt": "x"}) for i in range(1, 13)]
        assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
        assert answers[-1].error["code"] == "rate_limited" and 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        write(Visitor(site.port, "127.0.1.1"))  # who was here before is no newcomer
        assert Visitor(site.port, "127.0.1.12").get("/api/jobs/job_0000000000001").status == 404, "a look makes no account"
        listed = site.client().get("/api/admin/accounts?limit=100").json["data"]
        assert len([row for row in listed if row["user_id"].startswith("public:")]) == 10


def test_a_visitor_is_on_the_plan_that_the_configuration_says(tmp_path):
    config = public_config()
    with Server(tmp_path, config) as site:
        visitor = Visitor(site.port)
        before = write(visitor)
        assert before["plan"] == "visitors"
        for endpoint in config["endpoints"][:2]:
            endpoint["public"] = "guests"
        config["plans"]["guests"] = {"priority_class": "low", "limits": {"queue_depth": 5}}
        del config["plans"]["visitors"]
        site.configure(config)
        answer = site.client().post("/api/admin/policy/apply", yaml.safe_dump(config).encode(), {"Content-Type": "application/yaml"})
        assert answer.status == 200, answer
        after = write(visitor)
        assert after["plan"] == "guests" and after["account"] == before["account"]
        closed = {**config, "endpoints": config["endpoints"][2:]}
        answer = site.client().post("/api/admin/policy/apply", yaml.safe_dump(closed).encode(), {"Content-Type": "application/yaml"})
        assert answer.status == 200, answer
        assert visitor.post("/write", {"prompt": "x"}).status == 404
        assert visitor.get(f"/api/jobs/{before['id']}").status == 401, "nothing is public any more"


# --- JS9

# The plan of the document's load-test.js: (seconds, users at their end). `JS9_FULL=1` takes its minutes.
FULL = os.environ.get("JS9_FULL") == "1"
STAGES = [(60, 10), (120, 50), (60, 0)] if FULL else [(3, 10), (6, 50), (3, 0)]
THINK_SECONDS = 1.0


def users_at(seconds):
    """How many the plan wants then: a straight line within each stage."""
    before, start = 0, 0.0
    for duration, target in STAGES:
        if seconds < start + duration:
            return before + (target - before) * (seconds - start) / duration
        before, start = target, start + duration
    return 0


class Load:
    """Users that come and go as the plan says: each asks, looks at the answer, and sleeps a second."""

    def __init__(self, port, body):
        self.port, self.body = port, body
        self.lock = threading.Lock()
        self.answers = []  # (status, seconds, whether it is the job)
        self.start = time.monotonic()

    def user(self, number):
        client = Visitor(self.port)
        while users_at(time.monotonic() - self.start) > number:
            begun = time.monotonic()
            try:
                answer = client.post("/api/ai/edit", self.body)
                took = time.monotonic() - begun
                found = (answer.status, took, answer.status == 200 and answer.json["object"] == "job")
            except (OSError, http.client.HTTPException) as error:
                found = (repr(error), time.monotonic() - begun, False)
            with self.lock:
                self.answers.append(found)
            time.sleep(THINK_SECONDS)
        client.close()

    def run(self):
        total = sum(duration for duration, _ in STAGES)
        threads = []
        while (elapsed := time.monotonic() - self.start) < total:
            alive = {number for number, thread in threads if thread.is_alive()}
            for number in range(round(users_at(elapsed))):
                if number not in alive:
                    thread = threading.Thread(target=self.user, args=(number,))
                    thread.start()
                    threads.append((number, thread))
            time.sleep(0.05)
        for _, thread in threads:
            thread.join(WAIT_SECONDS)
        return self.answers


def test_JS9_the_documents_load_plan_passes_against_the_public_endpoint(tmp_path, address):
    """Against the preset as it is; of the plan only the addresses and the picture are others."""
    text = (ROOT / "presets/jewelshot.yaml").read_text() + "\npictures: {allow_private: true}\n"
    with Server(tmp_path, text) as editor:
        visitor = Visitor(editor.port)
        answers = Load(editor.port, {"prompt": "enhance lighting", "image_url": address}).run()
        times = sorted(took for _, took, _ in answers)
        p95, worst = times[int(len(times) * 0.95)], times[-1]
        print(f"{len(answers)} requests, p95 {p95 * 1000:.0f} ms, max {worst * 1000:.0f} ms")
        assert len(answers) > sum(duration for duration, _ in STAGES) * 10
        failed = [answer for answer in answers if answer[0] != 200 or not answer[2]]
        assert not failed, f"{len(failed)} of {len(answers)}: {failed[:3]}"  # the document allows 1 %
        assert p95 < 0.5 and worst < 0.5
        jobs = editor.client(account=visitor.user).jobs()
        assert len(jobs) == len(answers), "each is a job, and none was lost"
