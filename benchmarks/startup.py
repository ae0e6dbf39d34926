"""Time fresh processes: what each layer of afp's start costs, and what its kernel cache saves.

Usage: python benchmarks/startup.py [--repeat N]. The kernel is one of a few lines; "numba's
cache" is the same function under ``numba.njit(cache=True)``. Wall time, warm page cache.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FUNCTION = """
import math
import numpy as np

{decorator}
def vote(positions, weights, histogram, n):
    best = 0
    for i in range(positions.size):
        bin = (positions[i] - i) % histogram.size
        histogram[bin] += weights[i % weights.shape[0], i % weights.shape[1]]
        if histogram[bin] > histogram[best]:
            best = bin
    score = 0.0
    for j in range(n):
        score += math.log1p(histogram[(best + j) % histogram.size])
    return score

vote(np.arange(9, dtype=np.int64), np.ones((2, 2), np.float32), np.zeros(5), 3)
"""
SIGNATURE = '"float64(int64[::1], float32[:, ::1], float64[::1], int64)"'
DECORATORS = {
    "with_afp": f"from afp.compiled import kernel\n@kernel({SIGNATURE})",
    "with_numba": f"import numba\n@numba.njit({SIGNATURE}, cache=True, nogil=True)",
}


def seconds(command: list[str], environment: dict[str, str], repeat: int) -> tuple[float, float]:
    """Return the first run's wall time and the median of the others."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, f"{name}.py")) for name in DECORATORS}
        for name, path in paths.items():
            program = FUNCTION.replace("{decorator}", DECORATORS[name])
            Path(path).write_text(program, encoding="utf-8")
        environment = {
            **os.environ,
            "AFP_CACHE": folder,
            "NUMBA_CACHE_DIR": folder,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        commands = {
            "bare Python": ["-c", "pass"],
            "import numpy": ["-c", "import numpy"],
            "import afp.compiled": ["-c", "import afp.compiled"],
            "import numpy, llvmlite.binding": ["-c", "import numpy, llvmlite.binding"],
            "import numpy, numba": ["-c", "import numpy, numba"],
            "kernel, afp's cache": [paths["with_afp"]],
            "kernel, numba's cache": [paths["with_numba"]],
            "afp --help": ["-c", "from afp.cli import main; main()", "--help"],
        }
        print(f"{'process':32}{'first':>10}{'median':>10}")
        for name, arguments in commands.items():
            try:
                first, median = seconds([sys.executable, *arguments], environment, repeat)
            except subprocess.CalledProcessError as error:
                print(f"{name:32}failed with status {error.returncode}")
                continue
            print(f"{name:32}{1e3 * first:7.0f} ms{1e3 * median:7.0f} ms")


if __name__ == "__main__":
    main()
