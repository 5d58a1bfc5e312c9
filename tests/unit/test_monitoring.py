"""What monitoring/ asks for is shown, and the real Prometheus takes it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "img2img-farm.json"
#: what a histogram is shown as, beside its name
PARTS = re.compile(r"_(bucket|count|sum)$")


def documented() -> dict[str, set[str]]:
    """Metric to labels."""
    rows = re.findall(
        r"^\| `(img2img_\w+)` \|([^|]*)\|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
    )
    return {name: {label.strip() for label in labels.split(",") if label.strip()} for name, labels in rows}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def questions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])] + [
        rule["expr"] for rule in rules()
    ]


def test_every_question_is_about_what_is_shown() -> None:
    metrics = documented()
    asked = questions()
    assert len(asked) > 30
    for question in asked:
        for name, conditions in re.findall(r"(img2img_\w+)(?:\{([^}]*)\})?", question):
            labels = metrics[PARTS.sub("", name)]
            assert set(re.findall(r'(\w+)!?=~?"', conditions)) <= labels, question


def test_no_two_panels_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) == 23


@pytest.fixture
def promtool() -> str:
    """Prometheus' own checker. Without it the test is skipped, but not in CI."""
    found = shutil.which("promtool")
    if found is None:
        assert "CI" not in os.environ, "CI installs Prometheus"
        pytest.skip("no promtool: apt install prometheus")
    return found


def test_prometheus_takes_the_rules_and_the_questions(tmp_path: Path, promtool: str) -> None:
    asked = [
        {"record": f"asked:{number}", "expr": _without_variables(each)}
        for number, each in enumerate(questions())
    ]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))
    for command in (["config", str(MONITORING / "prometheus.yml")], ["rules", str(tmp_path / "asked.yml")]):
        done = subprocess.run([promtool, "check", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should(tmp_path: Path, promtool: str) -> None:
    waiting = 'img2img_farm_images{model="m",state="waiting"}'
    living = 'img2img_farm_workers{model="m",state="in_service"}'
    test = {
        "rule_files": [str(MONITORING / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": waiting, "values": "5x30"},
                    {"series": living, "values": workers},
                ],
                "alert_rule_test": [
                    {"eval_time": "20m", "alertname": "NoWorkerForWaitingImages", "exp_alerts": found}
                ],
            }
            for workers, found in (
                ("1x30", []),
                (
                    "0x30",
                    [
                        {
                            "exp_labels": {"model": "m", "severity": "critical"},
                            "exp_annotations": _annotations("NoWorkerForWaitingImages", model="m", value="5"),
                        }
                    ],
                ),
            )
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _annotations(alert: str, *, model: str, value: str) -> dict[str, str]:
    (rule,) = (rule for rule in rules() if rule["alert"] == alert)
    annotations: dict[str, str] = rule["annotations"]
    return {
        name: text.replace("{{ $labels.model }}", model).replace("{{ $value }}", value)
        for name, text in annotations.items()
    }


def _without_variables(question: str) -> str:
    return question.replace("$model", ".*")
