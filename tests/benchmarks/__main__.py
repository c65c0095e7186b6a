"""Print how `probe` compares with the bare forward pass: python -m tests.benchmarks [import|speed|long|naive|memory|…].

glibc gives large blocks back to the system and takes them anew, or does not, depending on what happens to lie on the
heap; on some virtual machines this doubles the time of a forward pass. The benchmarks therefore start themselves
again with an allocator that keeps what it has, for both sides of every ratio.
"""

import os
import sys

from tests.benchmarks import (
    ablation,
    checkpoint,
    gpu,
    importing,
    matching,
    memory,
    naive,
    planning,
    ranking,
    ranks,
    sampling,
    similarity,
    speed,
)

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(8 << 30), "MALLOC_TRIM_THRESHOLD_": str(32 << 30)}
if os.environ.get("MALLOC_TRIM_THRESHOLD_") is None:
    os.execve(sys.executable, [sys.executable, "-m", "tests.benchmarks", *sys.argv[1:]], os.environ | KEEP_MEMORY)

BENCHMARKS = {
    "import": importing.run,
    "speed": speed.run,
    "long": lambda: speed.run(n_images=2000, repetitions=1),
    "gpu": gpu.run,
    "naive": naive.run,
    "memory": memory.run,
    "sampling": sampling.run,
    "similarity": similarity.run,
    "ranking": ranking.run,
    "neighbours": matching.run,
    "ablation": ablation.run,
    "ranks": ranks.run,
    "plan": planning.run,
    "checkpoint": checkpoint.run,
}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
