"""Pictures that an input names by `image_url`: fetched within bounds, from nowhere it may not, and nothing left behind."""

import struct
import subprocess
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from media import jpeg_size
from support import ROOT, WAIT_SECONDS, Server, configuration, unique, until
from test_workers import Worker

SECRET = "a-token-of-the-address"


def png(width, height, pixels=True):
    """A picture of one colour; without `pixels` it is a header that says so, and no more."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + b"\x10\x80\xf0" * width) * height if pixels else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


PICTURE = png(80, 60)
BOMB = png(100_000, 100_000, pixels=False)
ZIP = b"PK\x03\x04\x14\x00\x00\x00" + bytes(1000)


class Host:
    """A server of pictures. What stands at a path is a function that is given the request's handler."""

    def __init__(self):
        self.seen = []  # (path, headers)
        self.left = []  # paths whose reader has gone before the end
        self.go_on = threading.Event()  # what is slow or endless ends
        self.pages = {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.split("?")[0]
                host.seen.append((path, dict(self.headers)))
                self.close_connection = True
                try:
                    host.pages[path](self)
                except OSError:
                    host.left.append(path)

            def head(self, status=200, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()

            def whole(self, body, status=200, **headers):
                self.head(status, Content_Length=len(body), **headers)
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path, name="127.0.0.1"):
        return f"http://{name}:{self.port}{path}?token={SECRET}"

    def put(self, page):
        """A page under a path of its own; gives its address."""
        path = f"/{unique('page')}.png"
        self.pages[path] = page
        return self.url(path)

    def serve(self, body, **headers):
        return self.put(lambda handler: handler.whole(body, **headers))

    def hits(self, url):
        path = url.split(f":{self.port}")[1].split("?")[0]
        return [headers for seen, headers in list(self.seen) if seen == path]

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def preset(allow_private=True, timeout="30s", upload_bytes="25MB"):
    """presets/dev.yaml, its pictures and first retry as a test wants them."""
    text = (ROOT / "presets/dev.yaml").read_text()
    for old, new in (("allow_private: false", f"allow_private: {str(allow_private).lower()}"),
                     ("  timeout: 30s #", f"  timeout: {timeout} #"), ("upload_bytes: 25MB", f"upload_bytes: {upload_bytes}"),
                     ("attempts: 3, base: 1s", "attempts: 3, base: 50ms")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def host():
    with Host() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory, host):
    with Server(tmp_path_factory.mktemp("pictures"), preset()) as running:
        yield running


def files(server):
    return {path for path in (server.data / "artifacts").rglob("*") if path.is_file()}


def nothing_left(server):
    until(lambda: not any((server.data / "spool").iterdir()) and not any((server.data / "work").iterdir()),
          "the removal of what was fetched", 10)


def edit(client, url, operations=None, **fields):
    return client.submit("image_edit", {"image_url": url, "operations": operations or {}}, **fields)


def refused(server, client, url, code, **fields):
    """The message of a job that fails so, and leaves nothing."""
    before = files(server)
    job = client.ended(edit(client, url, **fields)["id"], 60)
    assert job["status"] == "failed" and job["error"]["code"] == code, job
    assert SECRET not in str(job), "what stands in an address is not repeated"
    assert "artifacts" not in (job["result"] or {})
    nothing_left(server)
    assert files(server) == before
    return job["error"]["message"]


# --- What is taken


def other_formats(folder):
    """The same picture as each kind that is taken, by the program that will read it."""
    made = {}
    (folder / "picture.png").write_bytes(PICTURE)
    for name in ("jpg", "webp", "gif"):
        target = folder / f"picture.{name}"
        subprocess.run(["vips", "copy", folder / "picture.png", target], check=True, capture_output=True)
        made[name] = target.read_bytes()
    return made


def test_JS5_a_picture_elsewhere_is_edited_as_an_upload_is(server, host, user):
    url = host.serve(PICTURE, Content_Type="image/png")
    resize = {"resize": {"width": 40}}
    job = user.completed(edit(user, url, resize)["id"], 60)
    [artifact] = job["result"]["artifacts"]
    fetched = user.get(artifact["url"]).body
    assert jpeg_size(fetched) == (40, 30) and artifact["mime"] == "image/jpeg"
    uploaded = user.post("/api/artifacts", PICTURE, {"Content-Type": "image/png"}).json
    same = user.completed(user.submit("image_edit", {"image": uploaded["id"], "operations": resize})["id"], 60)
    assert same["result"]["artifacts"][0]["sha256"] == artifact["sha256"]
    [headers] = host.hits(url)
    assert "Authorization" not in headers and "Cookie" not in headers and "Referer" not in headers
    nothing_left(server)


def test_every_kind_is_taken_by_its_bytes_and_not_by_its_name(server, host, user, tmp_path):
    for name, body in other_formats(tmp_path).items():
        job = user.completed(edit(user, host.serve(body, Content_Type="text/plain"))["id"], 60)
        assert jpeg_size(user.get(job["result"]["artifacts"][0]["url"]).body) == (80, 60), name


def test_it_is_led_on_three_times(server, host, user):
    url = host.serve(PICTURE)
    for step in range(3):
        location = url if step else url.split(f":{host.port}")[1]  # the innermost is relative
        url = host.put(lambda handler, location=location: handler.head(302 + 5 * (step % 2), Location=location, Content_Length=0))
    user.completed(edit(user, url)["id"], 60)
    further = host.put(lambda handler: handler.head(301, Location=url, Content_Length=0))
    assert "leads on" in refused(server, user, further, "invalid_input")


def test_what_is_busy_is_asked_again(server, host, user):
    answers = [503, 200]

    def page(handler):
        status = answers.pop(0)
        handler.whole(PICTURE if status == 200 else b"busy", status)
    url = host.put(page)
    job = user.completed(edit(user, url)["id"], 60)
    assert job["attempt"] == 2 and len(host.hits(url)) == 2
    why = user.get(f"/api/jobs/{job['id']}/why").json
    assert f"127.0.0.1:{host.port} answered 503" in str(why) and SECRET not in str(why)


def test_a_worker_gets_it_as_a_file(tmp_path, host):
    config = configuration(providers={"own": {"kind": "pull", "lease": "1m"}}, models={"retoucher": ("image_edit", "own")},
                           pictures={"allow_private": True})
    with Server(tmp_path, config) as server:
        worker, user = Worker(server), server.client(account=unique())
        job = edit(user, host.serve(PICTURE))
        work = worker.one("own")
        [file] = work["files"]
        assert (file["field"], file["mime"]) == ("image", "image/png")
        assert worker.client.get(file["url"]).body == PICTURE
        worker.complete(work, output={"done": True})
        assert user.job(job["id"])["status"] == "completed"
        nothing_left(server)
        # One that does not come in time fails its try; the claim waits on for other work.
        slow = edit(user, host.put(lambda handler: host.go_on.wait(WAIT_SECONDS)), max_attempts=1)
        assert worker.ask("own", wait_s=1).json["data"] == []
        failed = user.ended(slow["id"])
        assert failed["error"]["code"] == "transient" and "did not answer in time" in failed["error"]["message"]


# --- What can never be taken


def endless(handler):
    handler.head(200, Transfer_Encoding="chunked")
    piece = PICTURE + bytes(65_536 - len(PICTURE))
    while True:
        handler.wfile.write(b"10000\r\n" + piece + b"\r\n")


def two_gigabytes(handler):
    handler.head(200, Content_Type="image/png", Content_Length=2 << 30)
    handler.wfile.write(PICTURE)


def too_short_by_its_length(handler):
    handler.head(200, Content_Type="image/png", Content_Length=20)
    handler.wfile.write(PICTURE)


def leads_to(location):
    return lambda handler: handler.head(302, Location=location, Content_Length=0)


# name -> (page, words of the message)
NEVER = {
    "not there": (lambda handler: handler.whole(b"no", 404), "answered 404"),
    "forbidden": (lambda handler: handler.whole(PICTURE, 403), "answered 403"),
    "2 GB": (two_gigabytes, "sends a file of 2147483648 bytes; at most 25000000 may be fetched"),
    "endless": (endless, "more than 25000000 bytes"),
    "a length that is too short": (too_short_by_its_length, "is broken"),
    "a ZIP": (lambda handler: handler.whole(ZIP, Content_Type="image/png"), "is a ZIP archive, and no picture"),
    "a page": (lambda handler: handler.whole(b"<!doctype html><title>x</title>", Content_Type="image/png"), "is a web page"),
    "a vector": (lambda handler: handler.whole(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "an XML or SVG document"),
    "nothing": (lambda handler: handler.whole(b""), "sent nothing"),
    "a bomb": (lambda handler: handler.whole(BOMB), "a picture of 100000x100000 pixels"),
    "half a header": (lambda handler: handler.whole(PICTURE[:18]), "is broken"),
    "a file of ours": (leads_to("file:///etc/passwd"), "no http:// or https:// address"),
    "a socket of ours": (leads_to("unix:/run/docker.sock:/v1"), "no http:// or https:// address"),
    "somebody's password": (leads_to("http://ann:pw@127.0.0.1/"), "no http:// or https:// address"),
    "nowhere": (lambda handler: handler.head(302, Content_Length=0), "leads on to no address"),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_can_never_be_taken_fails_at_once_and_says_why(server, host, user, name):
    page, words = NEVER[name]
    url = host.put(page)
    message = refused(server, user, url, "invalid_input")
    assert words in message and message.startswith("image_url: "), message
    assert len(host.hits(url)) == 1, "it is not tried again"


def test_a_bomb_that_was_uploaded_is_refused_as_well(server, user):
    uploaded = user.post("/api/artifacts", BOMB, {"Content-Type": "image/png"}).json
    job = user.ended(user.submit("image_edit", {"image": uploaded["id"]})["id"], 60)
    assert job["status"] == "failed" and job["error"]["code"] == "invalid_input", job
    assert job["error"]["message"].startswith("image: a picture of 100000x100000 pixels")


def test_a_picture_is_no_larger_than_the_plan_lets_one_upload(tmp_path, host):
    with Server(tmp_path, preset(upload_bytes=f"{len(PICTURE)}")) as server:
        user = server.client(account=unique())
        user.completed(edit(user, host.serve(PICTURE))["id"], 60)
        message = refused(server, user, host.serve(PICTURE + b"x"), "invalid_input")
        assert f"at most {len(PICTURE)} may be fetched" in message


BAD_FORMS = {
    "no address": "cat.png",
    "a path": "/etc/passwd",
    "another scheme": "ftp://example.com/a.png",
    "a file": "file:///etc/passwd",
    "a socket": "unix:/run/docker.sock:/v1",
    "a password": "https://ann:pw@example.com/a.png",
    "no host": "https:///a.png",
    "no port": "https://example.com:99999/a.png",
    "a space": "https://example.com/a b.png",
    "too long": "https://example.com/" + "a" * 2048,
    "empty": "",
    "a number": 5,
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_an_address_of_bad_form_is_refused_at_once(user, name):
    answer = user.post("/api/jobs", {"task": "image_edit", "input": {"image_url": BAD_FORMS[name]}})
    assert answer.status == 400 and answer.error["param"] == "input.image_url", answer
    assert user.jobs() == []


def test_an_input_names_one_picture(user):
    both = user.post("/api/jobs", {"task": "image_edit", "input": {"image": "art_0000000000001", "image_url": "https://a/b"}})
    assert both.status == 400 and both.error["param"] == "input.image_url" and "not both" in both.error["message"]
    none = user.post("/api/jobs", {"task": "image_edit", "input": {"operations": {}}})
    assert none.status == 400 and none.error["param"] == "input.image" and "image_url" in none.error["message"]


# --- Where it may not go


def test_private_addresses_are_asked_only_where_the_configuration_allows_it(tmp_path, host):
    with Server(tmp_path, preset(allow_private=False)) as server:
        user = server.client(account=unique())
        seen = len(host.seen)
        url = host.serve(PICTURE)
        for name in ("127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "192.168.1.1", "[fd00::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
            answer = user.post("/api/jobs", {"task": "image_edit", "input": {"image_url": url.replace("127.0.0.1", name)}})
            assert answer.status == 400 and answer.error["param"] == "input.image_url", (name, answer)
            assert "not public" in answer.error["message"]
        # A name shows where it leads only when it is looked up; so do the odd ways to write an address.
        for name in ("localhost", "2130706433", "127.1", "0x7f.1"):
            message = refused(server, user, url.replace("127.0.0.1", name), "invalid_input")
            assert "not public" in message, (name, message)
        assert len(host.seen) == seen, "nobody was asked"


# --- What may pass


def test_whoever_cannot_be_reached_is_asked_as_often_as_the_job_says(server, user):
    with Host() as gone:
        url = gone.url("/a.png")
    message = refused(server, user, url, "transient", max_attempts=2)
    assert "cannot connect" in message
    assert user.jobs()[0]["attempt"] == 2


def test_what_breaks_off_may_come_whole_the_next_time(server, host, user):
    def half(handler):
        handler.head(200, Content_Length=len(PICTURE) + 10)
        handler.wfile.write(PICTURE)
    url = host.put(half)
    refused(server, user, url, "transient", max_attempts=2)
    assert len(host.hits(url)) == 2


@pytest.mark.parametrize("where", ["before the answer", "within the picture"])
def test_it_takes_no_longer_than_it_may(tmp_path, host, where):
    def drip(handler):
        if where == "within the picture":
            handler.head(200)
            handler.wfile.write(PICTURE[:40])
            while not host.go_on.wait(0.05):
                handler.wfile.write(b"x")
        host.go_on.wait(WAIT_SECONDS)
    with Server(tmp_path, preset(timeout="1s")) as server:
        user = server.client(account=unique())
        message = refused(server, user, host.put(drip), "transient", max_attempts=1)
        assert "did not answer in time" in message


def test_a_job_is_taken_at_once_and_cancelled_while_its_picture_comes(server, host, user):
    began = threading.Event()

    def drip(handler):
        handler.head(200)
        handler.wfile.write(PICTURE[:40])
        began.set()
        while not host.go_on.wait(0.05):
            handler.wfile.write(b"x")
    url = host.put(drip)
    before = files(server)
    job = edit(user, url)
    assert began.wait(WAIT_SECONDS)
    assert user.job(job["id"])["status"] == "processing"
    assert user.delete(f"/api/jobs/{job['id']}").status == 200
    assert user.ended(job["id"], 10)["status"] == "cancelled"
    until(lambda: url.split(f":{host.port}")[1].split("?")[0] in host.left, "its host is left alone", 10)
    nothing_left(server)
    assert files(server) == before and len(host.hits(url)) == 1


def test_a_job_that_waits_has_nothing_fetched(server, host):
    user = server.client(account=unique())
    gate = threading.Event()
    slow = host.put(lambda handler: (gate.wait(WAIT_SECONDS), handler.whole(PICTURE)))
    first = [edit(user, slow)["id"] for _ in range(2)]  # as many as tier1 has at once
    until(lambda: len(host.hits(slow)) == 2, "both are fetched")
    url = host.serve(PICTURE)
    waits = edit(user, url)
    assert user.job(waits["id"])["status"] == "queued" and not host.hits(url)
    gate.set()
    for job in [*first, waits["id"]]:
        user.completed(job, 60)
    assert len(host.hits(url)) == 1
