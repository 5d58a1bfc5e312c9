import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from img2img_worker.models.checkpoints import mapped
from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.checkpoints.weights import assemble

MEBIBYTE = 1 << 20


def resident(path: Path) -> int:
    """Bytes of a mapped file that count as this process' memory."""
    maps = Path("/proc/self/smaps").read_text()
    sizes = re.findall(rf"{re.escape(str(path))}\n(?:\w.*\n)*?Rss: +(\d+) kB", maps)
    assert sizes, "it is not mapped"
    return sum(map(int, sizes)) * 1024


def test_tensors_of_any_type_and_shape_are_what_was_written(tmp_path: Path) -> None:
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool)
    written = {str(kind): torch.arange(15).reshape(3, 5).to(kind) for kind in kinds}
    written |= {"number": torch.tensor(0.5), "nothing": torch.zeros(0, 4)}
    save_file(written, tmp_path / "file.safetensors")
    read = MappedFiles().read(tmp_path / "file.safetensors")
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name].float(), tensor.float())
        assert read[name].shape == tensor.shape


def test_loading_holds_a_piece_of_the_file_beside_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "PIECE", 2 * MEBIBYTE)
    path = tmp_path / "file.safetensors"
    layers = [torch.nn.Linear(512, 512) for _ in range(24)]
    save_file(torch.nn.Sequential(*layers).state_dict(), path)
    seen = []

    class Watched(MappedFiles):
        """Says before each tensor how much is there."""

        def used(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
            for item in super().used(weights):
                seen.append(resident(path))
                yield item

    files = Watched()
    network = assemble(
        lambda: torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in layers)),
        files.read(path),
        device=torch.device("cpu"),
        dtype=torch.float32,
        source="a test",
        files=files,
    )
    assert max(seen) <= 4 * MEBIBYTE < path.stat().st_size / 4
    assert resident(path) == 0
    loaded = network.state_dict()
    for name, weight in torch.nn.Sequential(*layers).state_dict().items():
        assert torch.equal(loaded[name], weight)
