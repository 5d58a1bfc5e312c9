"""The farm in a folder: its processes start by themselves, are shared, and never outlive their users."""

import base64
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from img2img_producer import Farm
from img2img_shared.embedded import server as embedded_server
from img2img_shared.embedded.farm import EmbeddedFarm
from img2img_shared.embedded.supervised import Supervisor
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import connect
from img2img_shared.settings import Settings
from img2img_worker.models.checkpoints.catalog import DEMO
from tests.eventually import eventually
from tests.integration.gateway import Gateway, picture
from tests.processes import running
from tests.servers import RedisServer, raw_client


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: pytest's own, of a process among several, is too deep for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="farm-") as folder:
        yield Path(folder)


def test_a_server_whose_disk_is_full_is_not_waited_for(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    server = RedisServer("--dir", str(disk), "--save", "3600 1")
    try:
        with raw_client(server.url) as client:
            disk.rmdir()
            client.set("a", "b")
            client.bgsave()
            eventually(
                "the disk is full", lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err"
            )
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                client.ping()
        assert embedded_server.answers(server.folder / "redis.sock")
    finally:
        server.remove()


def test_who_waits_hears_once_that_the_disk_is_full_and_once_that_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedFarm(Settings(data_dir=tmp_path)) as farm, raw_client(farm.redis_url) as client:
        farm.supervise("m", lambda: False)
        assert not caplog.messages
        shutil.rmtree(tmp_path / "redis")  # where it cannot write any more
        client.config_set("save", "3600 1")
        client.bgsave()
        eventually("it cannot save", lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        for _ in range(3):
            farm.supervise("m", lambda: False)
        client.config_set("stop-writes-on-bgsave-error", "no")
        farm.supervise("m", lambda: False)
    assert caplog.messages == [
        f"the disk of {tmp_path} takes no writes: nothing goes on until there is room",
        f"the disk of {tmp_path} takes writes again",
    ]


#: a program that uses the farm in a folder until it is told to stop
USER = """
import sys
from pathlib import Path
from img2img_shared.embedded.farm import EmbeddedFarm
from img2img_shared.settings import Settings
with EmbeddedFarm(Settings(data_dir=Path(sys.argv[1]))) as farm:
    print(farm.redis_url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def user_of(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another program on the folder, and the URL that it uses."""
    command = [sys.executable, "-c", USER, str(folder)]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        yield program, program.stdout.readline().strip()


def answers(url: str) -> bool:
    try:
        connect(url).close()
    except Unavailable:
        return False
    return True


def server_pid(url: str) -> int:
    with raw_client(url) as client:
        return int(client.info("server")["process_id"])


def test_a_farm_with_nothing_configured_takes_jobs_and_keeps_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=None, store_url=None)
    with EmbeddedFarm(settings) as embedded, Farm(embedded.redis_url, embedded.store_url) as farm:
        job = farm.submit([b"x", b"y"], model="m")
    assert not answers(embedded.redis_url)
    with Farm(settings=settings) as farm:
        assert farm.is_embedded
        assert farm.status(job).pending == 2
    assert not answers(embedded.redis_url)
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "store" / "jobs" / job).is_dir()


def test_two_programs_share_one_server_and_it_ends_with_the_last(tmp_path: Path) -> None:
    with user_of(tmp_path) as (first, url):
        pid = server_pid(url)
        with EmbeddedFarm(Settings(data_dir=tmp_path)) as embedded:
            assert embedded.redis_url == url
            first.communicate()
            assert server_pid(url) == pid
    assert not answers(url)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_a_program_however_that_ends(tmp_path: Path, how: signal.Signals) -> None:
    with user_of(tmp_path) as (program, url):
        assert answers(url)
        program.send_signal(how)
        program.communicate()
    eventually("it has ended", lambda: not answers(url))


def test_ctrl_c_in_the_terminal_reaches_the_program_not_its_server(tmp_path: Path) -> None:
    with user_of(tmp_path) as (program, url):
        assert os.getpgid(server_pid(url)) != os.getpgid(program.pid)
        program.communicate()


def supervisor_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("whom", ["the server", "its supervisor"])
def test_a_server_that_is_killed_is_started_again_with_what_it_was_told(tmp_path: Path, whom: str) -> None:
    with EmbeddedFarm(Settings(data_dir=tmp_path)) as farm, user_of(tmp_path) as (program, url):
        with raw_client(url) as client:
            client.set("told", "before")
        pid = server_pid(url)

        def is_another() -> bool:
            with raw_client(url) as client:
                try:
                    return client.get("told") == b"before" and server_pid(url) != pid
                except redis.RedisError:  # it is ending, or starting
                    return False

        os.kill(pid if whom == "the server" else supervisor_of(pid), signal.SIGKILL)
        eventually("another serves what was told", is_another)
        farm.supervise("m", lambda: False)
        farm.close()
        eventually("another serves what was told", is_another)  # it is the other program's, too
        program.communicate()
        eventually("it has ended", lambda: not answers(url))


def test_a_server_that_does_not_start_again_is_told_with_its_last_words(tmp_path: Path) -> None:
    with EmbeddedFarm(Settings(data_dir=tmp_path)) as farm:
        pid = server_pid(farm.redis_url)
        shutil.rmtree(tmp_path / "redis")

        def told() -> str:
            try:
                farm.supervise("m", lambda: False)
            except Unavailable as error:
                return str(error)
            return ""

        os.kill(pid, signal.SIGKILL)
        assert "embedded Redis did not start; the end of" in eventually("it is noticed", told)
    with EmbeddedFarm(Settings(data_dir=tmp_path)) as again:
        assert answers(again.redis_url)


def test_a_data_folder_too_deep_for_a_sockets_path_works_and_is_shared(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a long name for a folder"] * 6)
    with user_of(deep) as (program, url), EmbeddedFarm(Settings(data_dir=deep)) as embedded:
        assert embedded.redis_url == url
        assert len(url) < 100
        program.communicate()
        assert answers(url)
    assert not Path(url.removeprefix("unix://")).parent.exists(), "it is left behind outside the data folder"


def test_what_starts_while_the_last_one_ends_finds_its_folder_again(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.keep("one", ["sleep", "600"], {}).release()
    assert not supervisor.run.exists()
    again = supervisor.keep("one", ["sleep", "600"], {})
    assert again.runs()
    again.release()


def test_a_run_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(Unavailable, match="chmod 700"):
        EmbeddedFarm(Settings(data_dir=tmp_path))


def test_what_is_kept_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)  # as an earlier version made it
    with EmbeddedFarm(Settings(data_dir=tmp_path)):
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert {name: oct(mode) for name, mode in modes.items()} == dict.fromkeys(
        ("run", "logs", "locks", "redis", "store"), "0o700"
    )


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonlydir").write_text("in the way")
    with pytest.raises(Unavailable, match=r"(?s)did not start.*redis\.log:.*appendonlydir"):
        EmbeddedFarm(Settings(data_dir=tmp_path))


def test_a_store_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="memory://"):
        EmbeddedFarm(Settings(data_dir=tmp_path, store_url="memory://"))


def test_a_worker_that_cannot_load_its_model_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "no model").mkdir()
    with Farm(settings=Settings(data_dir=tmp_path / "data")) as farm:
        job = farm.submit(b"x", model=str(tmp_path / "no model"))
        assert farm.status(job).waits_for is None, "its worker is being loaded"
        with pytest.raises(Unavailable, match=r"(?s)no model.* has ended.*worker-.*\.log:.*model is "):
            farm.serve(str(tmp_path / "no model"))
        shutil.copytree(DEMO, tmp_path / "no model", dirs_exist_ok=True)
        farm.serve(str(tmp_path / "no model"))
        assert [worker.info.model for worker in farm.workers()] == [str(tmp_path / "no model")]


def test_what_the_worker_has_is_known_to_its_first_request(tmp_path: Path) -> None:
    image = base64.b64encode(picture()).decode()
    asked = {"init_images": [image], "width": 64, "height": 64, "steps": 1, "restore_faces": True}
    body = {**asked, "override_settings": {"sd_model_checkpoint": DEMO.name, "sd_vae": "soft"}}
    with Gateway(data_dir=tmp_path) as gateway:
        for _ in range(2):
            answer = gateway.http.post("/sdapi/v1/img2img", json=body).raise_for_status()
            vae, faces = json.loads(answer.json()["info"])["warnings"]
            assert vae.startswith("sd_vae: no VAE 'soft' here")
            assert faces.startswith("restore_faces: there is no CodeFormer here")


def test_a_folder_may_be_called_what_it_likes(tmp_path: Path) -> None:
    with EmbeddedFarm(Settings(data_dir=tmp_path / "a #1? %20@b")) as farm:
        assert answers(farm.redis_url)
