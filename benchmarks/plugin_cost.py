"""What an installed pv costs a pytest run that does not ask for it: `python -m benchmarks.plugin_cost`.

Each is the fastest of several new processes, taken in turns: `pytest --collect-only` on an empty folder with the plugin
and with `-p no:pv`. The last line is the import of the plugin's one module, pytest being loaded already.
"""

import subprocess
import sys
import tempfile
import time

ROUNDS = 20
IMPORT = "import pytest, time; start = time.perf_counter(); import pv.pytest_plugin; print(time.perf_counter() - start)"


def seconds(folder: str, *options: str) -> float:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-pno:cacheprovider", *options]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    taken: dict[str, list[float]] = {"with": [], "without": [], "import": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            taken["with"].append(seconds(folder))
            taken["without"].append(seconds(folder, "-pno:pv"))
            told = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
            taken["import"].append(float(told.stdout))
    best = {name: min(times) for name, times in taken.items()}
    print(f"with the plugin   {1000 * best['with']:7.1f} ms")
    print(f"-p no:pv          {1000 * best['without']:7.1f} ms   ratio {best['with'] / best['without']:.3f}")
    print(f"its import        {1000 * best['import']:7.1f} ms")


if __name__ == "__main__":
    main()
