"""How long ``import probe`` takes, and what it would take with torch."""

import statistics
import subprocess
import sys

_CHILD = "import sys, time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def run(repetitions: int = 5) -> None:
    for module, target in (("probe", "required < 0.3"), ("torch", "for comparison")):
        seconds = [
            float(subprocess.run([sys.executable, "-c", _CHILD.format(module)], capture_output=True, check=True).stdout)
            for _ in range(repetitions)
        ]
        print(f"import {module}: {statistics.median(seconds):.3f} s (median of {repetitions}); {target}", flush=True)
