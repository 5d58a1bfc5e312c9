"""A program written for A1111, pointed at the farm: ``python a1111_client.py photo.jpg out.png``."""

import argparse
from pathlib import Path

import webuiapi
from PIL import Image


def main() -> None:
    """One picture through ``/sdapi/v1/img2img``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    api = webuiapi.WebUIApi(host=given.host, port=given.port)
    result = api.img2img(
        images=[Image.open(given.picture)],
        prompt=given.prompt,
        denoising_strength=0.5,
        steps=given.steps,
        width=given.size,
        height=given.size,
        sampler_name="DPM++ 2M",
        scheduler="Karras",
        seed=7,
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result.image.save(given.out)
    print(result.info["infotexts"][0])


if __name__ == "__main__":
    main()
