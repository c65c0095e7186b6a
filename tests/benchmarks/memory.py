"""Peak memory of `layerwise` at 100 and at 1,000 images, each in a process of its own."""

import subprocess
import sys

_CHILD = """
import resource, sys, warnings, torch, torchvision, probe
warnings.simplefilter("ignore")
n_images = int(sys.argv[1])
torch.manual_seed(0)
batches = (torch.randn(20, 3, 224, 224) for _ in range(n_images // 20))
probe.layerwise(torchvision.models.resnet18(weights=None), batches, max_images=n_images, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run() -> None:
    few, many = (
        int(subprocess.run([sys.executable, "-c", _CHILD, str(n)], capture_output=True, check=True).stdout)
        for n in (100, 1000)
    )
    print(
        f"peak memory of layerwise, resnet18, two stimuli: {few / 1e6:.3f} GB at 100 images, {many / 1e6:.3f} GB at "
        f"1,000: {many / few - 1:+.1%}; required < 5 %"
    )
