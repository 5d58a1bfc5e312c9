"""docker-compose.yml, as far as it can be checked without an engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_file_is_valid_compose() -> None:
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_reference_dangles() -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    mounts = [mount for service in services().values() for mount in service.get("volumes", [])]
    named = {mount.split(":")[0] for mount in mounts}
    assert {name for name in named if name[0] not in "$."} == set(document["volumes"])
    for service in services().values():
        files = [mount.split(":")[0] for mount in service.get("volumes", []) if mount.startswith(".")]
        assert all((ROOT / file).exists() for file in files)
        assert set(service.get("depends_on", {})) <= set(services())
        assert {each["source"] for each in service.get("configs", [])} <= set(document["configs"])


def test_every_service_has_a_health_check_and_comes_back() -> None:
    for name, service in services().items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_no_secret_is_written_in_it() -> None:
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|SECRET|PASSWORD|TOKEN", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]*\}", value), name


def test_redis_keeps_what_it_was_told() -> None:
    command = " ".join(services()["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_clients_reach_the_gateway_through_a_proxy_with_limits() -> None:
    assert "ports" not in services()["gateway"]
    (published,) = services()["proxy"]["ports"]
    assert published.startswith("127.0.0.1:")
    told = yaml.safe_load(COMPOSE.read_text())["configs"]["proxy"]["content"]
    for limit in ("timeout http-request", "timeout client", "timeout http-keep-alive", "maxconn"):
        assert re.search(rf"^\s+{limit} \d+s?$", told, re.MULTILINE), limit
    assert re.search(r"tcp-request connection reject if \{ sc0_conn_cur gt \d+ \}", told)
    assert re.search(r"server gateway gateway:7860 ", told)


def test_the_worker_reserves_a_gpu_and_mounts_the_models_read_only() -> None:
    worker = services()["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert any(mount.endswith(":/models:ro") for mount in worker["volumes"])


def test_what_the_dockerfile_copies_is_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert name in let_in
                assert (ROOT / name).exists()


def test_the_image_runs_as_a_user_of_its_own() -> None:
    assert re.search(r"^USER (?!root)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "img2img-worker.service").read_text()
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd here")
    copy = tmp_path / "img2img-worker.service"
    copy.write_text(unit.replace("/opt/img2img/bin/img2img", "/bin/sh"))  # it must be there
    done = subprocess.run([verify, "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
