"""One process against two ranks and two processes by themselves, each with one thread: images a second."""

import subprocess
import sys
import tempfile

_CHILD = """
import sys, time, warnings, torch, torchvision, torch.distributed as dist, probe
warnings.simplefilter("ignore")
torch.set_num_threads(1)
kind, rank, world, file, n_images = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4], int(sys.argv[5])
torch.manual_seed(0)
model, images = torchvision.models.resnet18(weights=None).eval(), torch.randn(n_images, 3, 224, 224)
options = {"stimuli": "natural", "positions": 40, "progress": False}
probe.layerwise(model, images[:16], **options)
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
dist.barrier()
if kind == "alone":
    dist.destroy_process_group()
start, used = time.perf_counter(), time.process_time()
probe.layerwise(model, images, **options)
print(time.perf_counter() - start, time.process_time() - used)
"""


def _seconds(kind: str, world: int, n_images: int) -> tuple[float, float]:
    """Return how long the slowest of some processes takes, and how long their processors work in all."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", _CHILD, kind]
        started = [
            subprocess.Popen([*words, str(rank), str(world), f"{folder}/group", str(n_images)], stdout=subprocess.PIPE)
            for rank in range(world)
        ]
        wall, used = zip(*(map(float, child.communicate()[0].split()) for child in started), strict=True)
        return max(wall), sum(used)


def run(n_images: int = 400, repetitions: int = 3) -> None:
    for _ in range(repetitions):
        (one, work_of_one), (ranks, work_of_ranks), (alone, work_alone) = (
            _seconds(*setting)
            for setting in (("rank", 1, n_images), ("rank", 2, n_images), ("alone", 2, n_images // 2))
        )
        print(
            f"layerwise, resnet18, {n_images} images, one thread each: {n_images / one:.1f} images/s in one process, "
            f"{n_images / ranks:.1f} in two ranks, {n_images / alone:.1f} in two processes by themselves; efficiency "
            f"{one / ranks / 2:.3f}, of what the two reach together {alone / ranks:.3f}; required ≥ 0.95; "
            f"seconds of processors: {work_of_one:.1f}, {work_of_ranks:.1f} and {work_alone:.1f}",
            flush=True,
        )
