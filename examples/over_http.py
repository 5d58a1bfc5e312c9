"""Another service's way to the farm: HTTP alone. ``python over_http.py photo.jpg out/ --prompt snow``."""

import argparse
import io
import json
import os
import zipfile
from pathlib import Path

import requests


def main() -> None:
    """Uploads, follows the job's events, unpacks the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    session = requests.Session()
    if key := os.environ.get("IMG2IMG_KEY"):
        session.headers["Authorization"] = f"Bearer {key}"

    # fields first, then the pictures; a retry with the same key gives the same job
    fields = {
        "prompt": given.prompt,
        "denoising_strength": 0.5,
        "steps": given.steps,
        "width": given.size,
        "height": given.size,
    }
    files = [("image", (path.name, path.read_bytes())) for path in given.pictures]
    answer = session.post(f"{given.url}/v1/jobs/upload", data=fields, files=files, timeout=120)
    if answer.status_code == 422:
        raise SystemExit(answer.json()["detail"])
    answer.raise_for_status()
    job = f"{given.url}/v1/jobs/{answer.json()['id']}"

    with session.get(f"{job}/events", stream=True, timeout=600) as events:
        for line in events.iter_lines(decode_unicode=True):
            if line.startswith("data:"):
                status = json.loads(line.removeprefix("data:"))
                print(f"{status['done']} of {status['n']} done, {status['failed']} failed")

    archive = session.get(f"{job}/results.zip", timeout=600)
    archive.raise_for_status()
    with zipfile.ZipFile(io.BytesIO(archive.content)) as results:
        results.extractall(given.out)
        print("saved", ", ".join(results.namelist()))


if __name__ == "__main__":
    main()
