"""``make bench``: every benchmark, one after the other, small enough for a laptop's CPU.

Each is a command of its own with larger settings: ``python -m bench.engine --help`` and so on.
"""

import subprocess
import sys

BENCHMARKS = (
    ("bench.sampling",),
    ("bench.engine", "--images", "40"),
    ("bench.control", "--rounds", "1"),
    ("bench.loras", "--rounds", "2"),
    ("bench.mixed", "--slots", "8", "--images", "32"),
    ("bench.start", "--rounds", "1"),
    ("bench.device", "--slots", "1,2,4,8"),
    ("bench.farm",),
    ("bench.urgent", "--side", "128", "--pictures", "3"),
    ("bench.peers", "--images", "4", "--rounds", "2"),
    ("bench.acknowledge",),
    ("bench.ledger", "--workers", "100", "--jobs", "1000"),
    ("bench.placement", "--workers", "60", "--minutes", "15"),
    ("bench.models", "--images", "60"),
    ("bench.gateway", "--images", "300", "--pollers", "50", "--watchers", "100"),
)


def main() -> None:
    """Run all benchmarks; stops at the first that fails."""
    for benchmark in BENCHMARKS:
        print("$ python -m", *benchmark, flush=True)
        subprocess.run([sys.executable, "-m", *benchmark], check=True)


if __name__ == "__main__":
    main()
