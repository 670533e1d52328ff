"""ST5: a script becomes one video with its scenes told and shown, whatever happens to the server meanwhile."""

import json
import subprocess

import pytest

from media import png_size, wav_seconds
from support import ENDED, ROOT, Server, unique, until

TALE = (ROOT / "examples/tale.txt").read_text()
STORY_SECONDS = 180  # on a machine that does much else
PRESET = (ROOT / "presets/story.yaml").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("story"), PRESET) as running:
        yield running


def order(client, **body):
    answer = client.post("/create-story", body)
    assert answer.status == 202, answer
    return answer.json


def run_of(client, run_id):
    answer = client.get(f"/api/runs/{run_id}")
    assert answer.status == 200, answer
    return answer.json


def ended_run(client, run_id, seconds=STORY_SECONDS):
    def look():
        run = run_of(client, run_id)
        return run if run["status"] in ENDED else None
    return until(look, f"the end of {run_id}", seconds)


def steps_of(run):
    return {step["name"]: step for step in run["steps"]}


def jobs_of(client, run, step):
    return [client.job(job["id"]) for job in steps_of(run)[step]["jobs"]]


def files_of(client, jobs):
    return [client.get(artifact["url"]).body for job in jobs for artifact in job["result"]["artifacts"]]


def probe(data, tmp_path):
    """What ffprobe says of a file: its streams by kind, and its duration in seconds."""
    path = tmp_path / "probed.mp4"
    path.write_bytes(data)
    said = subprocess.run(["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", path],
                          capture_output=True, text=True, timeout=60, check=True)
    assert said.stderr == ""
    found = json.loads(said.stdout)
    streams = {stream["codec_type"]: stream for stream in found["streams"]}
    assert len(streams) == len(found["streams"])
    # All of it can be decoded.
    decoded = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "null", "-"], capture_output=True,
                             text=True, timeout=120, check=True)
    assert decoded.stderr == ""
    return streams, float(found["format"]["duration"])


def check_video(client, run, tmp_path, size):
    """The run's one artifact is a video that is as long as its narrations are."""
    (artifact,) = run["result"]["artifacts"]
    assert artifact["mime"] == "video/mp4"
    data = client.get(artifact["url"]).body
    assert data.index(b"moov") < data.index(b"mdat"), "it plays while it comes"
    streams, seconds = probe(data, tmp_path)
    assert (streams["video"]["codec_name"], streams["audio"]["codec_name"]) == ("h264", "aac")
    assert (streams["video"]["width"], streams["video"]["height"]) == size
    assert streams["video"]["pix_fmt"] == "yuv420p"
    narrations = files_of(client, jobs_of(client, run, "narrations"))
    told = sum(map(wav_seconds, narrations))
    assert told <= seconds <= told + 0.5 * len(narrations) + 0.5
    for stream in streams.values():
        assert abs(float(stream["duration"]) - told) <= 0.5 * len(narrations)
    return narrations


def test_ST5_a_script_becomes_a_video_with_its_scenes_told_and_shown(server, tmp_path):
    user = unique()
    client = server.client()
    run = order(client, script=TALE, userId=user, seriesId="series456", userTier="tier3",
                videoConfig={"userTier": "tier3", "scenes": 3, "width": 641, "height": 360, "speed": 300})
    assert run["object"] == "run" and run["workflow"] == "story" and run["user_id"] == user and run["plan"] == "tier3"
    run = ended_run(client, run["id"])
    assert run["status"] == "completed", run
    steps = steps_of(run)
    assert [step["status"] for step in run["steps"]] == ["skipped"] + ["completed"] * 5
    assert steps["clips"]["needs"] and len(steps["clips"]["jobs"]) == 3
    scenes = run["result"]["output"]["scenes"]
    assert " ".join(scene["text"] for scene in scenes) == " ".join(TALE.split()), "all of it, in its order"
    assert len(check_video(client, run, tmp_path, (640, 360))) == 3
    pictures = files_of(client, jobs_of(client, run, "pictures"))
    assert [png_size(picture) for picture in pictures] == [(640, 360)] * 3
    assert len(set(pictures)) == 3


def test_ST5_a_prompt_is_written_first(server, tmp_path):
    client = server.client(account=unique())
    run = ended_run(client, order(client, prompt="a lighthouse", videoConfig={"scenes": 2})["id"])
    assert run["status"] == "completed", run
    (written,) = jobs_of(client, run, "write")
    scenes = run["result"]["output"]["scenes"]
    assert " ".join(scene["text"] for scene in scenes) == " ".join(written["result"]["output"]["text"].split())
    check_video(client, run, tmp_path, (1280, 720))


def test_ST5_what_is_missing_or_unknown_is_said(server):
    client = server.client(account=unique())
    refused = client.post("/create-story", {"seriesId": "s"})
    assert refused.status == 400, refused
    assert "script" in refused.error["message"]
    refused = client.post("/create-story", {"script": "Once.", "videoConfig": {"fps": 60}})
    assert refused.status == 400 and refused.error["param"] == "videoConfig.fps", refused
    run = ended_run(client, order(client, script="\n \n")["id"])
    assert run["status"] == "failed" and run["error"]["code"] == "invalid_input", run


def test_ST5_only_clips_of_ones_own_are_joined(server):
    owner, other = server.client(account=unique()), server.client(account=unique())
    run = ended_run(owner, order(owner, script="Once there was a crow.")["id"])
    assert run["status"] == "completed", run
    (clip,) = [artifact["id"] for job in jobs_of(owner, run, "clips") for artifact in job["result"]["artifacts"]]
    stolen = other.ended(other.submit("video", {"clips": [clip]})["id"])
    assert stolen["status"] == "failed" and "clips must be" in stolen["error"]["message"], stolen
    many = owner.ended(owner.submit("video", {"clips": [clip] * 101})["id"])
    assert many["status"] == "failed" and "at most 100" in many["error"]["message"], many
    joined = owner.completed(owner.submit("video", {"clips": [clip] * 3})["id"], STORY_SECONDS)
    assert joined["result"]["artifacts"][0]["mime"] == "video/mp4"


def test_ST5_a_kill_in_the_middle_repeats_no_step(tmp_path):
    with Server(tmp_path / "home", PRESET) as server:
        client = server.client(account="ada")
        run = order(client, script=TALE, userTier="tier4", videoConfig={"scenes": 4, "width": 320, "height": 180})

        def begun():
            jobs = [job for step in run_of(client, run["id"])["steps"] for job in step["jobs"]]
            done = [job["id"] for job in jobs if job["status"] == "completed"]
            return done if len(done) >= 4 and len(done) < len(jobs) else None
        done = until(begun, "some of its jobs have completed", STORY_SECONDS)
        before = {job_id: client.job(job_id) for job_id in done}
        client.close()
        server.kill()
        server.start()
        client = server.client(account="ada")
        ended = ended_run(client, run["id"])
        assert ended["status"] == "completed", ended
        for job_id, job in before.items():
            assert client.job(job_id) == job, "what had completed was not touched"
        names = ("split", "pictures", "narrations", "clips", "video")
        jobs = [job for name in names for job in jobs_of(client, ended, name)]
        assert [len(jobs_of(client, ended, name)) for name in names] == [1, 4, 4, 4, 1]
        assert all(job["attempt"] == 1 for job in jobs), "a try that a crash took is no attempt"
        assert len(client.jobs()) == len(jobs), "no job was made twice"
        check_video(client, ended, tmp_path, (320, 180))
        server.stop()
