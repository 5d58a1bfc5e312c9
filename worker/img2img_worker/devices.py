"""``python -m img2img_worker.devices``: what torch finds to render on, as JSON, for ``img2img doctor``."""

import json

import torch


def all_gpus() -> list[str]:
    """torch's names of this machine's GPUs."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def main() -> None:
    """Print torch's version, and name and bytes of memory of each GPU."""
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    gpus = [{"name": each.name, "memory": each.total_memory} for each in found]
    print(json.dumps({"torch": torch.__version__, "gpus": gpus}))  # noqa: T201 (its output)


if __name__ == "__main__":
    main()
