"""The Helm chart, rendered by helm itself and held to Kubernetes' schemas; no cluster takes part."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "img2img-farm"
HELM = Path(sys.executable).parent / "helm"
#: of Kubernetes, the oldest and the newest that the chart is held to
VERSIONS = ("1.29", "1.34")
#: what other programs define, and no schema of Kubernetes' has
FOREIGN = {"ScaledObject", "TriggerAuthentication", "PodMonitor"}

EVERYTHING = """
image: {repository: registry.example/img2img-farm, pullSecrets: [{name: registry}]}
env: {IMG2IMG_LEASE: 60}
gateway:
  ingress: {enabled: true, host: farm.example, className: nginx, tlsSecretName: tls}
  nodeSelector: {pool: small}
models: {volume: {persistentVolumeClaim: {claimName: models}}}
metrics: {podMonitor: true}
redis: {enabled: true}
workers:
  - {name: sd15, model: sd 1.5/v1-5.safetensors, replicas: 3, gpus: 2, env: {IMG2IMG_SLOTS: 16}}
  - {name: xl, model: xl, gpus: 1, scaling: {max: 8}, tolerations: [{key: gpu, operator: Exists}]}
  - {name: cpu, model: demo, gpus: 0}
  - {name: all, gpus: 1, scaling: {min: 1, max: 4}}
"""


def rendered(values: str, *, fails: bool = False) -> list[dict[str, Any]]:
    command: list[str | Path] = [HELM, "template", "farm", CHART, "--values", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode != 0) == fails, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="module")
def everything() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, what comes of values that use all of the chart."""
    return {(each["kind"], each["metadata"]["name"]): each for each in rendered(EVERYTHING)}


def pod(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


def environment(document: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod(document)["containers"][0]["env"]}


def test_helm_finds_no_fault() -> None:
    done = subprocess.run([HELM, "lint", "--strict", CHART], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", ["", EVERYTHING], ids=["defaults", "everything"])
def test_kubernetes_would_take_it(values: str, version: str) -> None:
    documents = [each for each in rendered(values) if each["kind"] not in FOREIGN]
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= {each["kind"] for each in documents}
    for each in documents:
        kubernetes_validate.validate(each, version, strict=True)


def test_each_pool_serves_its_model_on_its_gpus(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    found = {}
    for name in ("sd15", "xl", "cpu", "all"):
        worker = everything["Deployment", f"farm-worker-{name}"]
        (container,) = pod(worker)["containers"]
        gpus = container["resources"].get("limits", {}).get("nvidia.com/gpu", 0)
        found[name] = (container["args"], gpus, worker["spec"].get("replicas"))
    assert found == {
        "sd15": (["worker", "--model", "sd 1.5/v1-5.safetensors"], 2, 3),
        "xl": (["worker", "--model", "xl"], 1, None),  # as many as the scaler says
        "cpu": (["worker", "--model", "demo"], 0, 1),
        "all": (["worker"], 1, None),
    }
    assert environment(everything["Deployment", "farm-worker-sd15"])["IMG2IMG_SLOTS"] == "16"
    assert "IMG2IMG_SLOTS" not in environment(everything["Deployment", "farm-worker-xl"])


def test_pools_share_no_pods(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployments = [each for (kind, _), each in everything.items() if kind == "Deployment"]
    for one in deployments:
        wanted = one["spec"]["selector"]["matchLabels"].items()
        for other in deployments:
            labels = other["spec"]["template"]["metadata"]["labels"].items()
            assert (wanted <= labels) == (one is other)


def test_a_farm_is_known_by_the_secret_and_its_own_redis(
    everything: dict[tuple[str, str], dict[str, Any]],
) -> None:
    for name in ("farm-gateway", "farm-worker-cpu"):
        (container,) = pod(everything["Deployment", name])["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "img2img-farm"}}]
        assert environment(everything["Deployment", name])["IMG2IMG_REDIS_URL"] == "redis://farm-redis:6379/0"
        assert environment(everything["Deployment", name])["IMG2IMG_LEASE"] == "60"
    assert ("StatefulSet", "farm-redis") in everything
    without = rendered("")
    assert "StatefulSet" not in {each["kind"] for each in without}
    assert "IMG2IMG_REDIS_URL" not in str(without)


def test_a_pod_has_longer_to_stop_than_it_needs(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployments = [each for (kind, _), each in everything.items() if kind == "Deployment"]
    grace = {pod(each)["terminationGracePeriodSeconds"] for each in deployments}
    assert grace == {60}


def test_a_pool_is_scaled_by_what_waits_for_its_model(
    everything: dict[tuple[str, str], dict[str, Any]],
) -> None:
    (of_all,) = everything["ScaledObject", "farm-worker-all"]["spec"]["triggers"]
    assert of_all["metadata"]["url"] == "http://farm-gateway:7860/v1/demand?total=true"
    scaler = everything["ScaledObject", "farm-worker-xl"]["spec"]
    (trigger,) = scaler["triggers"]
    assert trigger["metadata"]["url"] == "http://farm-gateway:7860/v1/demand?model=xl"
    assert (scaler["minReplicaCount"], scaler["maxReplicaCount"]) == (0, 8)
    assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in everything
    assert ("ScaledObject", "farm-worker-cpu") not in everything


@pytest.mark.parametrize(
    "values",
    ["workers: [{model: a}]", "gateway: {ingress: {enabled: true}}"],
)
def test_what_is_missing_is_not_guessed(values: str) -> None:
    rendered(values, fails=True)
