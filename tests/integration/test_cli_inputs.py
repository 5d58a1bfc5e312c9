"""What a command line's inputs bring of their own, by the command as a process."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from img2img_producer import Farm
from img2img_shared.job import Input, inputs_key
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from tests.integration.test_cli import ask, environment, farm, pictures, run, work
from tests.unit.test_own_texts import TEXT, png

__all__ = ["environment", "farm", "pictures"]


def submitted(environment: dict[str, str], farm: Farm, *arguments: str | Path) -> list[Input]:
    job = ask(environment, "submit", *arguments)["id"]
    return list(decode_inputs(Store(farm.store_url).get(inputs_key(job, 0))))


def own(items: Iterable[Input]) -> list[tuple[str | None, dict[str, Any]]]:
    return [(item.name, item.params) for item in items]


def test_a_manifests_lines_are_rendered_with_what_is_their_own(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "image,mask,prompt,sampler_name,seed,folder,name\n"
        'pics/cat.png,pics/dog.jpg,"rain, snow",DPM++ 2M Karras,7,wet/day,\n'
        "pics/dog.jpg,,,,,,hound\n"
    )
    job = ask(environment, "submit", "--manifest", manifest, "--prompt", "sun", "--steps", "3")["id"]
    store = Store(farm.store_url)
    first, second = decode_inputs(store.get(inputs_key(job, 0)))
    assert {role: store.get(key) for role, key in first.pictures.items()} == {
        "image": b"cat.png",
        "mask": b"dog.jpg",
    }
    assert first.params == {
        "prompt": "rain, snow",
        "seed": 7,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
    }
    assert (second.name, second.params) == ("hound", {})
    work(farm)
    run(environment, "fetch", job, "--out", tmp_path / "out")
    assert (tmp_path / "out/wet/day/cat.png").read_bytes() == b"result 0"
    assert (tmp_path / "out/hound.png").read_bytes() == b"result 1"


def test_a_manifests_wrong_lines_are_told_at_once_and_nothing_is_sent(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.jsonl"
    lines = [
        '{"image": "pics/cat.png"}',
        '{"image": "pics/gone.png"}',
        '{"image": "pics/cat.png", "steps": 0}',
    ]
    manifest.write_text("\n".join(lines))
    told = run(environment, "submit", "--manifest", manifest, code=2).stderr.splitlines()
    assert [line.split(": ")[0].strip() for line in told[-2:]] == ["list.jsonl line 2", "list.jsonl line 3"]
    assert farm.jobs() == []
    assert list(Store(farm.store_url).list("inputs")) == []


def test_folders_of_folders_keep_their_shape_and_prompts_lie_beside_pictures(
    environment: dict[str, str], farm: Farm, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "more").mkdir()
    (pictures / "more" / "cat.png").write_bytes(b"another")
    (pictures / "cat.txt").write_text("a tiger\n")
    (pictures / "more" / "cat.txt").write_text("a lion")
    done = run(environment, "submit", pictures, "--recursive", "--prompt-files", "--prompt", "a dog")
    job = done.stdout.strip()
    assert "2 of the inputs" in done.stderr
    items = decode_inputs(Store(farm.store_url).get(inputs_key(job, 0)))
    assert own(items) == [
        ("cat", {"prompt": "a tiger"}),
        ("dog", {}),
        ("img10", {}),
        ("cat", {"prompt": "a lion"}),
    ]
    work(farm)
    run(environment, "fetch", job, "--out", tmp_path / "out")
    found = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    )
    assert found == ["cat.png", "dog.png", "img10.png", "more/cat.png"]


def test_each_picture_brings_parameters_in_its_infotext(
    environment: dict[str, str], farm: Farm, tmp_path: Path
) -> None:
    (tmp_path / "old.png").write_bytes(png(TEXT))
    names = ("--from-infotext", "Prompt,Seed,Sampler,schedule type")
    items = submitted(environment, farm, tmp_path / "old.png", *names, "--prompt", "oil of", "--steps", "4")
    prompt = "oil of a cat, (sleeping:1.2)"
    assert own(items) == [
        ("old", {"prompt": prompt, "seed": 99, "sampler_name": "DPM++ 2M", "scheduler": "Karras"})
    ]
