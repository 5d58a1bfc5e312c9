"""The command line as a process of its own: what it prints where, and how it exits."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from img2img_producer import Farm
from img2img_shared.job import inputs_key, result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.records import WorkerInfo
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from tests.processes import running

#: seconds after which a test gives up on a process
PATIENCE = 120.0

PROGRAM = [sys.executable, "-c", "from img2img_producer.cli import main; main()"]


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    """A shell in which an empty farm is configured."""
    farm = {"IMG2IMG_REDIS_URL": redis_url, "IMG2IMG_STORE_URL": str(tmp_path / "store"), "COLUMNS": "100"}
    return {**os.environ, **farm}


@pytest.fixture
def farm(environment: dict[str, str]) -> Iterator[Farm]:
    """The same farm in Python."""
    with Farm(environment["IMG2IMG_REDIS_URL"], environment["IMG2IMG_STORE_URL"]) as farm:
        yield farm


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three files called as pictures."""
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("cat.png", "dog.jpg", "img10.webp"):
        (folder / name).write_bytes(name.encode())
    return folder


def run(
    environment: dict[str, str], *arguments: str | Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """The command as it ended, with this exit code and, as always, without a traceback."""
    command = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def await_line(process: subprocess.Popen[str], words: str) -> None:
    """Until the process says them on standard error."""
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), "it has ended"


def ask(environment: dict[str, str], *arguments: str | Path, code: int = 0) -> Any:
    """What the command says with --json: one JSON value, alone on standard output."""
    return json.loads(run(environment, *arguments, "--json", code=code).stdout)


def work(farm: Farm, fail: frozenset[int] = frozenset()) -> None:
    """End every image there is, as a worker would."""
    client = connect(farm.redis_url)
    ledger, store = Ledger(client), Store(farm.store_url)
    while claim := ledger.claim("demo", "worker", uuid.uuid4().hex, idle=True):
        if claim.index in fail:
            ledger.fail(claim, "not a picture")
        else:
            store.put(result_key(claim.job_id, claim.index, "png"), b"result %d" % claim.index)
            ledger.finish(claim)
    client.close()


def test_a_submitted_job_is_listed_watched_and_fetched(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    submitted = run(environment, "submit", pictures, "--steps", "3", "--prompt", "a tiger", "--priority", "5")
    job = submitted.stdout.strip()
    assert farm.job(job).params.prompt == "a tiger"
    assert farm.job(job).params.steps == 3
    assert "no worker serves 'demo' yet" in submitted.stderr
    assert job in run(environment, "jobs").stdout
    assert "3: 3 pending" in run(environment, "status", job).stdout
    work(farm)
    assert "3 of 3 done" in run(environment, "watch", job).stderr
    fetched = run(environment, "fetch", job, "--out", tmp_path / "out")
    assert fetched.stdout == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cat.png", "dog.png", "img10.png"]
    assert (tmp_path / "out" / "dog.png").read_bytes() == b"result 1"


def test_a_failed_image_is_told_with_its_reason_and_the_others_are_saved(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    job = farm.submit(sorted(pictures.iterdir()), model="demo")
    work(farm, fail=frozenset({1}))
    told = run(environment, "fetch", job, "--out", tmp_path / "out", code=1)
    assert f"failed: {pictures / 'dog.jpg'}: not a picture" in told.stderr
    assert "2 of 3 images" in told.stderr
    facts = ask(environment, "render", "--resume", job, "--out", tmp_path / "out", code=1)
    assert (facts["done"], facts["failed"], facts["state"]) == (2, 1, "failed")
    states = [(image["index"], image["state"], image["reason"]) for image in facts["images"]]
    assert states == [(0, "done", None), (1, "failed", "not a picture"), (2, "done", None)]
    assert Path(facts["images"][0]["file"]).read_bytes() == b"result 0"
    status = run(environment, "status", job, "--images").stdout
    assert f"image 1 ({pictures / 'dog.jpg'}) failed: not a picture" in status
    each = ask(environment, "status", job, "--images")["images"][1]
    assert (each["index"], each["name"], each["path"]) == (1, "dog", str(pictures / "dog.jpg"))
    assert ask(environment, "retry", job) == {"job": job, "retried": 1}
    work(farm)
    run(environment, "fetch", job, "--out", tmp_path / "out")


def test_everything_has_json_alone_on_standard_output(
    environment: dict[str, str], farm: Farm, pictures: Path
) -> None:
    assert ask(environment, "jobs") == []
    assert ask(environment, "workers") == []
    job = ask(environment, "submit", pictures)["id"]
    assert ask(environment, "status", job, "--images")["images"][2]["state"] == "pending"
    assert ask(environment, "pause", job) == {"job": job, "changed": True}
    assert ask(environment, "pause", job) == {"job": job, "changed": False}
    assert ask(environment, "resume", job) == {"job": job, "changed": True}
    assert ask(environment, "priority", job, "9") == {"job": job, "priority": 9, "changed": True}
    assert ask(environment, "cancel", job) == {"job": job, "cancelled": 3}
    watched = run(environment, "watch", job, "--json", code=1).stdout.splitlines()
    assert json.loads(watched[-1])["cancelled"] == 3
    assert [each["state"] for each in ask(environment, "jobs")] == ["cancelled"]
    assert ask(environment, "rm", job) == {"job": job, "removed": 1}  # its list of inputs
    assert ask(environment, "jobs") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", "--out", "out"], "at least one picture"),
        (["render", "gone.png", "--out", "out"], "'gone.png'"),
        (["render", "empty", "--out", "out"], "it holds no pictures"),
        (["render", "pics", "--out", "pics"], "cat.png there is an input"),
        (["render", "pics"], "--out"),
        (["submit", "pics", "--sampler-name", "Foo"], "sampler_name is 'Foo': unknown sampler; use DPM++"),
        (
            ["submit", "pics", "--denoising-strength", "2"],
            "denoising_strength is 2.0: give a number from 0 to 1",
        ),
        (["submit", "pics", "--steps", "many"], "--steps"),
        (["submit", "pics", "--stepz", "3"], "--stepz"),
        (["submit", "pics", "--params", "gone.json"], "gone.json"),
        (["submit", "pics", "--mask", "gone.png"], "gone.png"),
        (["submit", "pics", "--mask-dir", "empty"], "one mask named cat."),
        (["submit", "pics", "--model", "folder/gone"], "folder/gone"),
        (["render", "pics", "--resume", "abcdefgh", "--out", "out"], "leave out inputs"),
        (["render", "--resume", "abcdefgh", "--out", "out"], "no job 'abcdefgh'"),
        (["status", "abcdefgh"], "no job 'abcdefgh'"),
        (["fly"], "fly"),
        (["--redis-url", "ftp://x", "jobs"], "redis_url is 'ftp://x'"),
        (["--tenant", "a b", "jobs"], "IMG2IMG_TENANT is 'a b'"),
        (["--tenant", "x", "worker"], "tenant is 'x'"),
        (["worker", "--log-level", "loud"], "'loud'"),
        (["render", "", "--out", "out"], "inputs is empty"),
        (["render", "pics", "--out", "text.safetensors/out"], "cannot be written to"),
        (["submit", "pics", "--model", "./empty"], "no model_index.json"),
        (["submit", "pics", "--model", "text.safetensors"], "this is no .safetensors file"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_two(
    environment: dict[str, str],
    farm: Farm,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(pictures.parent)
    Path("empty").mkdir()
    Path("text.safetensors").write_text("no tensors at all")
    done = run(environment, *arguments, code=2)
    assert done.stdout == ""
    assert said in done.stderr
    if done.stderr.startswith("img2img:"):
        assert done.stderr.count("\n") == 1
    assert farm.jobs() == [], "nothing was submitted"


def test_a_farm_that_is_away_is_one_clear_line(environment: dict[str, str]) -> None:
    done = run({**environment, "IMG2IMG_REDIS_URL": "redis://127.0.0.1:1"}, "jobs", code=1)
    assert "redis://127.0.0.1:1 does not answer" in done.stderr
    assert done.stderr.count("\n") == 1


def test_options_win_over_the_file(environment: dict[str, str], farm: Farm, pictures: Path) -> None:
    file = pictures / "params.json"
    file.write_text(json.dumps({"steps": 9, "mask_blur": 3, "prompt": "file"}))
    asked: list[str | Path] = ["submit", pictures, "--params", file, "--prompt", "option", "--no-mask-round"]
    params = farm.job(ask(environment, *asked)["id"]).params
    assert (params.steps, params.mask_blur_x, params.prompt, params.mask_round) == (9, 3, "option", False)


def test_masks_go_with_their_pictures(environment: dict[str, str], farm: Farm, pictures: Path) -> None:
    masks = pictures / "masks"
    masks.mkdir()
    for stem in ("img10", "cat", "dog"):
        (masks / f"{stem}.png").write_bytes(stem.encode())
    job = ask(environment, "submit", pictures, "--mask-dir", masks)["id"]
    store = Store(farm.store_url)
    inputs = decode_inputs(store.get(inputs_key(job, 0)))
    assert [store.get(item.pictures["mask"]) for item in inputs] == [b"cat", b"dog", b"img10"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_job_on_the_farm_and_says_how_to_come_back(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    out = tmp_path / "my out"
    command = [*PROGRAM, "render", str(pictures), "--out", str(out)]
    with running(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        await_line(process, "no worker serves")
        process.send_signal(stop)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in said
    (job,) = farm.jobs()
    assert job.pending == 3
    assert f"img2img watch {job.id}" in said
    assert f"img2img fetch {job.id} --out '{out}'" in said
    work(farm)
    run(environment, "fetch", job.id, "--out", out)
    assert len(list(out.iterdir())) == 3


def test_ctrl_c_stops_the_watching_and_says_that_the_job_goes_on(
    environment: dict[str, str], farm: Farm, pictures: Path
) -> None:
    job = run(environment, "submit", str(pictures)).stdout.strip()
    command = [*PROGRAM, "watch", job]
    with running(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        await_line(process, "no worker serves")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.endswith(f"the job goes on; to come back: img2img watch {job}\n")
    assert farm.status(job).pending == 3


def test_a_failure_names_the_file_that_it_was_made_from(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    command = [*PROGRAM, "render", str(pictures), "--out", str(tmp_path / "out"), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running(command, env=environment, text=True, **pipes) as process:
        await_line(process, "no worker serves")
        work(farm, fail=frozenset({1}))
        results, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"failed: {pictures / 'dog.jpg'}: not a picture" in said
    assert json.loads(results)["images"][1]["path"] == str(pictures / "dog.jpg")


def test_a_file_that_no_result_is_stays_unless_it_may_be_overwritten(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "dog.png").write_bytes(b"of last week")
    refused = run(environment, "render", pictures, "--out", out, code=2)
    assert "it has another dog.png" in refused.stderr
    assert f"img2img render --resume JOB --out {out}" in refused.stderr
    assert farm.jobs() == []
    job = farm.submit(sorted(pictures.iterdir()), model="demo")
    work(farm)
    assert "it has another dog.png" in run(environment, "fetch", job, "--out", out, code=2).stderr
    assert (out / "dog.png").read_bytes() == b"of last week"
    for _ in range(2):  # what this command wrote is no other file
        run(environment, "fetch", job, "--out", out, "--overwrite")
        assert (out / "dog.png").read_bytes() == b"result 1"
        run(environment, "fetch", job, "--out", out)


def test_a_checkpoint_that_only_the_workers_have_is_taken_by_its_full_path(
    environment: dict[str, str], farm: Farm, pictures: Path
) -> None:
    job = ask(environment, "submit", pictures, "--model", "/nowhere/here/sd15.safetensors")["id"]
    assert farm.job(job).model == "/nowhere/here/sd15.safetensors"


def test_a_checkpoint_behind_a_link_keeps_the_name_that_it_was_given(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model_index.json").write_text("{}")
    (tmp_path / "models").symlink_to("real")
    job = ask(environment, "submit", pictures, "--model", tmp_path / "models")["id"]
    assert farm.job(job).model == str(tmp_path / "models")


def test_a_priority_below_zero_needs_no_trick(
    environment: dict[str, str], farm: Farm, pictures: Path
) -> None:
    job = farm.submit(pictures / "cat.png")
    assert ask(environment, "priority", job, "-5")["priority"] == -5
    assert farm.status(job).priority == -5
    run(environment, "priority", job, "--loud", code=2)


def test_a_submit_to_a_farm_that_runs_nowhere_says_that_nothing_renders_it(
    environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    for name in ("IMG2IMG_REDIS_URL", "IMG2IMG_STORE_URL"):
        del environment[name]
    data = tmp_path / "data"
    done = run(environment, "--data-dir", data, "submit", pictures, "--model", "demo")
    again = f"img2img --data-dir {data} up --model demo"
    assert f"nothing renders it until this farm runs: {again}" in done.stderr
    assert f"farm: of this machine, in {data}" in done.stderr


def test_a_model_that_nobody_has_is_refused_before_anything_is_uploaded(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    models = tmp_path / "checkpoints"
    models.mkdir()
    (models / "dream.safetensors").write_bytes(b"")
    embedded = {**environment, "IMG2IMG_MODELS_DIR": str(models)}
    for name in ("IMG2IMG_REDIS_URL", "IMG2IMG_STORE_URL"):
        del embedded[name]
    data = tmp_path / "data"
    told = run(embedded, "--data-dir", data, "submit", pictures, "--model", "draem", code=2).stderr
    assert "model is 'draem': use demo, dream, or the path of a checkpoint" in told
    assert f"names are looked up in {models} (IMG2IMG_MODELS_DIR)" in told
    assert not (data / "store" / "inputs").exists()
    run(environment, "submit", pictures, "--model", "sd15")  # nobody is there, who could say what is right?
    farm._service.ledger.beat(WorkerInfo(id="w", model="sd15", device="none", slots=1))
    told = run(environment, "submit", pictures, "--model", "sd5", code=2).stderr
    assert "model is 'sd5': workers of this farm serve sd15" in told
    farm._service.ledger.bind_model("sd5", "0" * 64)  # one was there, and may come back
    run(environment, "submit", pictures, "--model", "sd5")


def test_a_mask_of_another_size_is_refused_before_anything_is_uploaded(
    environment: dict[str, str], farm: Farm, tmp_path: Path
) -> None:
    room, wall = tmp_path / "room.png", tmp_path / "wall.png"
    Image.new("RGB", (64, 48)).save(room)
    for size, code in (((64, 48), 0), ((128, 96), 2)):
        Image.new("L", size).save(wall)
        told = run(environment, "submit", room, "--mask", wall, code=code).stderr
    assert f"mask is {wall} of 128 × 96 pixels: give a mask" in told
    assert f"{room} has 64 × 48 pixels" in told
    assert len(farm.jobs()) == 1


def test_what_is_skipped_in_a_folder_is_named(environment: dict[str, str], pictures: Path) -> None:
    (pictures / "more").mkdir()
    for name in ("notes.txt", ".hidden", "more/cow.png"):
        (pictures / name).write_bytes(b"x")
    told = run(environment, "submit", pictures).stderr
    assert "2 files skipped: " in told
    assert f"{pictures / 'more/cow.png'} (in folders below; --recursive takes these too)" in told
    assert f"{pictures / 'notes.txt'} (no pictures, by their names)" in told


def test_each_command_says_which_farm_it_talks_to(environment: dict[str, str], redis_url: str) -> None:
    told = run({**environment, "IMG2IMG_TENANT": "studio"}, "jobs", "--json")
    assert told.stdout == "[]\n"
    assert told.stderr == f"farm: {redis_url}, tenant studio\n"


def test_a_setting_that_is_wrong_stops_a_worker_with_one_clear_line(environment: dict[str, str]) -> None:
    done = run({**environment, "IMG2IMG_LEASE": "long"}, "worker", code=2)
    assert done.stderr.startswith("img2img worker: IMG2IMG_LEASE is 'long': give a number")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_does_not_wait_for_a_store_that_hangs(environment: dict[str, str], pictures: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:
        hanging = {
            "IMG2IMG_STORE_URL": "s3://bucket",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }
        command = [*PROGRAM, "submit", str(pictures)]
        with (
            running(command, env={**environment, **hanging}, stderr=subprocess.PIPE, text=True) as process,
            store.accept()[0],  # it uploads, and is not answered
        ):
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=40)  # the upload itself would give up after a minute
    assert process.returncode == 130
    assert "Traceback" not in said


def test_help_shows_what_a_command_takes(environment: dict[str, str]) -> None:
    for command, shown in (("render", "--denoising-strength"), ("fetch", "--wait"), ("worker", "--slots")):
        assert shown in run(environment, command, "--help").stdout


def test_jobs_are_found_by_owner_and_tags(environment: dict[str, str], pictures: Path) -> None:
    alice = {**environment, "IMG2IMG_OWNER": "alice"}
    words = ("submit", pictures, "--tag", "summer", "--tag", "client=acme")
    hers = ask(alice, *words)
    assert (hers["owner"], hers["tags"]) == ("alice", ["client=acme", "summer"])
    other = ask({**environment, "IMG2IMG_OWNER": "bob"}, "submit", pictures, "--tag", "summer")["id"]

    def found(*words: str) -> list[str]:
        return [job["id"] for job in ask(environment, "jobs", *words)]

    assert found("--tag", "summer") == [other, hers["id"]]
    assert found("--tag", "summer", "--tag", "client=acme") == [hers["id"]]
    assert found("--owner", "bob") == [other]
    assert "client=acme summer" in run(environment, "jobs").stdout
    wrong = run(environment, "submit", pictures, "--tag", "two words", code=2)
    assert "tags.0 is 'two words'" in wrong.stderr


def test_jobs_are_found_by_name_state_and_model(
    environment: dict[str, str], farm: Farm, pictures: Path
) -> None:
    named = {}
    for name, model in (("Summer catalogue", "demo"), ("winter", "demo"), ("summer, other", "sd15")):
        named[name] = farm.submit(pictures / "cat.png", model=model, name=name)
    unnamed = ask(environment, "submit", pictures, "--model", "sd15")["id"]
    farm.cancel(named["winter"])

    def found(*words: str) -> list[str]:
        return [job["id"] for job in ask(environment, "jobs", *words)]

    assert len(found()) == 4
    assert found("summer") == [named["summer, other"], named["Summer catalogue"]]
    assert found("summer", "--model", "demo") == [named["Summer catalogue"]]
    assert found("--state", "cancelled", "--state", "done") == [named["winter"]]
    assert found("--model", "sd15", "--limit", "1") == [unnamed]
    assert found(unnamed[:12]) == [unnamed]
    assert "winter" in run(environment, "jobs").stdout
    assert "winter" in run(environment, "status", named["winter"]).stdout
    assert "no such jobs" in run(environment, "jobs", "autumn").stderr
    wrong = run(environment, "submit", pictures, "--name", "two\nlines", code=2)
    assert "name is 'two\\nlines': give text" in wrong.stderr


def test_it_says_its_version_and_completes_words(environment: dict[str, str]) -> None:
    assert run(environment, "--version").stdout.startswith("img2img-farm ")

    def completed(words: str) -> str:
        asked = {"_IMG2IMG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"img2img {words}"}
        return run({**environment, **asked}).stdout

    assert '"watch":' in completed("w")
    assert '"Euler a"' in completed("submit --sampler-name Eu")
    assert '"webp"' in completed("render --output-format ")
