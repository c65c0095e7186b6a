"""Print how `probe` compares with the bare forward pass: python -m tests.benchmarks [speed|long|naive|memory|…]."""

import sys

from tests.benchmarks import memory, naive, sampling, speed

BENCHMARKS = {
    "speed": speed.run,
    "long": lambda: speed.run(n_images=2000, repetitions=1),
    "gpu": speed.run_on_gpu,
    "naive": naive.run,
    "memory": memory.run,
    "sampling": sampling.run,
}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
