"""The options of benchmarks that render with a seeded checkpoint."""

import argparse

import torch

from bench.networks import SIZES


def command(description: str | None) -> argparse.ArgumentParser:
    """The command line with what all of them have; its help is `description` as it is."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--side", type=int, help="pixels; default: 64, 512 or 1024 by size")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    return parser


def side_of(arguments: argparse.Namespace) -> int:
    """Pixels of a picture's side: what was asked for, or what the model was made for."""
    return int(arguments.side or SIZES[arguments.size])


def dtype_for(device: str) -> torch.dtype:
    """What networks compute in there."""
    return torch.float32 if device == "cpu" else torch.float16
