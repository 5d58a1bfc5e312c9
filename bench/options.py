"""The options of benchmarks that render with a seeded checkpoint."""

import argparse

import torch

from bench.networks import SIZES


def command(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all of them have; its help is `description` as it is."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--side", type=int, help="pixels; default: 64, 512 or 1024 by size")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    return parser


def side_of(arguments: argparse.Namespace) -> int:
    """The side of pictures in pixels: the option's or, by default, the model's."""
    return int(arguments.side or SIZES[arguments.size])


def dtype_for(device: str) -> torch.dtype:
    """The precision of networks on a device."""
    return torch.float32 if device == "cpu" else torch.float16
