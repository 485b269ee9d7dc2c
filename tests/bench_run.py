"""Times of the main job: cold and warm, three times each, medians; and of `zbench --help`.

Run by `nox -s bench`; arguments go to `zbench run` after the usual ones, for example `--prompts 8`.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = ("run", "--methods", "zerase,uce,ac", "--concept", "nudity")
TIMES = 3


def seconds(*words: str) -> float:
    """Wall time of one `zbench` command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "zbench", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Prints the medians as JSON."""
    cold, warm = [], []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as folder:
            words = (*JOB, "--out", str(Path(folder) / "runs"), *sys.argv[1:])
            cold.append(seconds(*words))
            warm.append(seconds(*words))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    record = {
        "cold_seconds": statistics.median(cold),
        "warm_seconds": statistics.median(warm),
        "help_seconds": statistics.median(seconds("--help") for _ in range(TIMES)),
        "peak_memory_gib": peak,
        "machine": platform.platform(),
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
