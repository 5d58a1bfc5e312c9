"""Semantic segmentation of a picture, in the colours of ADE20K's classes (Zhou et al. 2017)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img_shared.errors import Refused

Pixels = NDArray[np.uint8]

#: red, green and blue of each class, as control networks for segmentation were trained on them
_COLOURS = bytes.fromhex(
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff0652"
    "8fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0"
    "ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff"
    "8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff"
    "00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ff"
    "ff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc200ff52000aff0070ff3300ff00c2ff007aff"
    "00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff0070"
    "5cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff500"
    "0abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cff"
    "b8ff000085ffffd60019c2c266ff005c00ff"
)
PALETTE = np.frombuffer(_COLOURS, np.uint8).reshape(-1, 3)


def parse_scene(networks: Sequence[Any], picture: Pixels, _numbers: tuple[float, float]) -> Pixels:
    """The colour of each pixel's likeliest class [H, W, 3], of a picture [H, W, 3].

    Args:
        networks: a processor and a network for semantic segmentation.

    Raises:
        Refused: the network's number of classes is another one.
    """
    ((processor, network),) = networks
    known = network.config.num_labels
    if known != len(PALETTE):
        reason = f"its network has {known} classes; use one for the {len(PALETTE)} of ADE20K"
        raise Refused("control.module", "segmentation", reason)
    given = processor(images=picture, return_tensors="pt").to(network.device)
    sizes = [picture.shape[:2]]
    (classes,) = processor.post_process_semantic_segmentation(network(**given), target_sizes=sizes)
    return np.asarray(PALETTE[classes.cpu().numpy()])
