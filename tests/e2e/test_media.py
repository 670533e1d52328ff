"""presets/dev.yaml makes real speech and real pictures, and serves them to whom they belong."""

import hashlib
import struct
import zlib

import pytest

from media import jpeg_size, png_size, wav_seconds
from support import ROOT, Client, Server, unique, until

SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("dev"), (ROOT / "presets/dev.yaml").read_text()) as running:
        yield running


def made(client, task, job_input):
    """(job, artifact, file) of a job that makes one file."""
    job = client.completed(client.submit(task, job_input)["id"], 60)
    assert len(job["result"]["artifacts"]) == 1
    artifact = job["result"]["artifacts"][0]
    answer = client.get(artifact["url"])
    assert answer.status == 200
    return job, artifact, answer.body


def failed(client, task, job_input):
    job = client.ended(client.submit(task, job_input)["id"], 60)
    assert job["status"] == "failed", job
    return job["error"]


def test_speech_is_a_wav_file_of_what_was_written(user):
    job, artifact, file = made(user, "speech", {"text": SENTENCE})
    seconds = wav_seconds(file)
    assert 1.5 < seconds < 8
    assert abs(job["usage"]["audio_ms"] - seconds * 1000) < 20
    assert artifact["mime"] == "audio/wav" and artifact["bytes"] == len(file)
    assert artifact["sha256"] == hashlib.sha256(file).hexdigest()
    assert artifact["url"] == f"/artifacts/{artifact['sha256']}.wav" and artifact["id"].startswith("art_")
    assert job["model"] == {"id": "narrator", "version": "1", "provider": "espeak"}


def test_speech_has_the_length_speed_and_voice_asked_for(user):
    plain = wav_seconds(made(user, "speech", {"text": SENTENCE})[2])
    assert wav_seconds(made(user, "speech", {"text": SENTENCE * 3})[2]) > 2 * plain
    assert wav_seconds(made(user, "speech", {"text": SENTENCE, "speed": 300})[2]) < 0.75 * plain
    german = made(user, "speech", {"text": SENTENCE, "voice": "de"})[2]
    assert german != made(user, "speech", {"text": SENTENCE})[2]


def test_speech_text_is_never_an_option_or_a_command(user):
    for text in ("-w /tmp/owned", "--help", "$(touch owned)", "`touch owned`", "; touch owned", "<speak>a</speak>", "-"):
        job = user.ended(user.submit("speech", {"text": text + " said Alice"})["id"], 60)
        assert job["status"] == "completed", (text, job)


def test_speech_in_a_format_that_is_not_there_says_so(user):
    error = failed(user, "speech", {"text": SENTENCE, "format": "mp3"})
    assert error["code"] == "invalid_input" and "format" in error["message"]


def test_a_picture_is_a_png_of_the_size_asked_for(user):
    job, artifact, file = made(user, "image", {"prompt": "Hello, road", "width": 640, "height": 360})
    assert png_size(file) == (640, 360)
    assert artifact["mime"] == "image/png" and artifact["url"].endswith(".png")
    assert job["usage"]["pixels"] == 640 * 360


def test_a_picture_is_of_the_format_asked_for(user):
    prompt = {"prompt": "Hello", "width": 320, "height": 200}
    _, artifact, file = made(user, "image", {**prompt, "format": "jpeg"})
    assert jpeg_size(file) == (320, 200) and artifact["mime"] == "image/jpeg"
    _, artifact, file = made(user, "image", {**prompt, "format": "webp"})
    assert file[:4] == b"RIFF" and file[8:12] == b"WEBP" and artifact["mime"] == "image/webp"


def test_any_text_becomes_a_picture(user):
    for prompt in ("<b>bold</b> & \"quoted\"", "-", "--help", "Größe 大きさ \U0001f600", "word " * 400, "&amp;", "line\nbreak"):
        job = user.ended(user.submit("image", {"prompt": prompt, "width": 256, "height": 256})["id"], 60)
        assert job["status"] == "completed", (prompt[:20], job["error"])


def png(width, height, colour):
    """A picture of one colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + bytes(colour) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def upload(client, data, mime="image/png"):
    return client.post("/api/artifacts", data, {"Content-Type": mime})


@pytest.fixture
def picture(user):
    answer = upload(user, made(user, "image", {"prompt": "Upload me", "width": 800, "height": 600})[2])
    assert answer.status == 201
    return answer.json


def test_an_upload_is_served_as_it_was(user):
    data = png(64, 48, (10, 200, 30))
    answer = upload(user, data)
    assert answer.status == 201, answer
    artifact = answer.json
    assert artifact["object"] == "artifact" and artifact["id"].startswith("art_")
    assert artifact["bytes"] == len(data) and artifact["sha256"] == hashlib.sha256(data).hexdigest()
    assert user.get(artifact["url"]).body == data


def test_a_picture_is_resized(user, picture):
    for resize, size in (({"width": 200}, (200, 150)), ({"width": 100, "height": 100}, (100, 100)),
                         ({"height": 300}, (400, 300))):
        _, artifact, file = made(user, "image_edit", {"image": picture["id"], "operations": {"resize": resize}})
        assert jpeg_size(file) == size and artifact["mime"] == "image/jpeg"


def test_a_picture_is_lit_and_compressed(user, picture):
    def edited(**operations):
        return made(user, "image_edit", {"image": picture["id"], "operations": operations})[2]
    plain = edited(compress={"quality": 90})
    assert jpeg_size(plain) == (800, 600)
    assert len(edited(compress={"quality": 20})) < len(plain)
    assert png_size(edited(compress={"format": "png"})) == (800, 600)
    brighter = edited(lighting={"brightness": 1.5, "contrast": 1.2}, compress={"format": "png"})
    assert png_size(brighter) == (800, 600) and brighter != edited(compress={"format": "png"})


def test_a_file_that_is_no_picture_fails_its_own_job_only(server, user):
    data = png(64, 48, (1, 2, 3))
    broken = upload(user, data[:8] + bytes(1000)).json
    error = failed(user, "image_edit", {"image": broken["id"]})
    assert error["message"] and str(server.data) not in error["message"]
    whole = upload(user, data).json
    made(user, "image_edit", {"image": whole["id"]})


def test_another_users_picture_cannot_be_edited(server, picture):
    other = server.client(account=unique())
    answer = other.post("/api/jobs", {"task": "image_edit", "input": {"image": picture["id"]}})
    assert answer.status == 400 and answer.error["param"] == "input.image"
    other.close()


BAD_UPLOADS = {
    "no PNG": (b"hello", "image/png", 400, "Content-Type"),
    "a type nobody takes": (b"<svg/>", "image/svg+xml", 400, "Content-Type"),
    "a page": (b"<script>", "text/html", 400, "Content-Type"),
    "nothing": (b"", "image/png", 400, "body"),
    "too much": (b"\x89PNG\r\n\x1a\n" + b"x" * 25_000_000, "image/png", 413, None),
}


@pytest.mark.parametrize("name", BAD_UPLOADS)
def test_a_bad_upload_is_refused(server, user, name):
    data, mime, status, param = BAD_UPLOADS[name]
    try:
        answer = upload(user, data, mime)
    except OSError:  # refused before it was all sent
        assert status == 413
    else:
        assert answer.status == status, answer
        if param:
            assert answer.error["param"] == param
    until(lambda: not any((server.data / "spool").iterdir()), "the removal of what was sent", 5)


def test_JS4_artifacts_are_cacheable_and_immutable(user):
    artifact = made(user, "speech", {"text": "Cache me."})[1]
    answer = user.get(artifact["url"])
    assert "immutable" in answer.headers["Cache-Control"] and "max-age=" in answer.headers["Cache-Control"]
    etag = answer.headers["ETag"]
    again = user.get(artifact["url"], **{"If-None-Match": etag})
    assert again.status == 304 and again.body == b"" and again.headers["ETag"] == etag
    assert user.get(artifact["url"], **{"If-None-Match": '"another"'}).status == 200
    head = user.request("HEAD", artifact["url"])
    assert head.status == 200 and int(head.headers["Content-Length"]) == artifact["bytes"] and head.body == b""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_artifacts_are_their_owners(server, user):
    artifact = made(user, "speech", {"text": f"A secret of {user.account}."})[1]
    other = server.client(account=unique())
    other.submit("text", {"prompt": "x"})
    assert other.get(artifact["url"]).status == 404
    assert user.get(artifact["url"].replace(".wav", ".png")).status == 404
    assert user.get(f"/artifacts/{'0' * 64}.wav").status == 404
    assert server.client().get(artifact["url"]).status == 200, "an admin sees all"
    nobody = Client(server.port, key=None)
    assert nobody.get(artifact["url"]).status == 401
    ticket = user.post("/api/tickets").json["ticket"]
    assert nobody.get(f"{artifact['url']}?ticket={ticket}").body[:4] == b"RIFF"
    theirs = other.post("/api/tickets").json["ticket"]
    assert nobody.get(f"{artifact['url']}?ticket={theirs}").status == 404


def test_the_same_content_is_stored_once_and_belongs_to_each(server, user):
    other = server.client(account=unique())
    mine = made(user, "speech", {"text": "Twins."})[1]
    theirs = made(other, "speech", {"text": "Twins."})[1]
    assert mine["sha256"] == theirs["sha256"] and mine["id"] != theirs["id"]
    files = [path for path in (server.data / "artifacts").rglob("*") if mine["sha256"] in path.name]
    assert len(files) == 1


def test_text_is_served_by_whoever_is_there_and_start_says_who(server, user):
    line = next(line for line in server.out if line.strip().startswith("text:"))
    job = user.completed(user.submit("text", {"prompt": "Say hello."})["id"], 120)
    assert job["model"]["provider"] in line and job["result"]["output"]["text"]


def test_no_work_file_is_left(server, user):
    made(user, "image", {"prompt": "Tidy", "width": 64, "height": 64})
    user.ended(user.submit("speech", {"text": "x", "format": "mp3"})["id"])
    until(lambda: not any((server.data / "work").iterdir()), "the removal of their files", 5)
