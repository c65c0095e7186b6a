"""What holds on a GPU: the numbers of a CPU, no waiting in hooks, and models left as they were when memory ends."""

import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torchvision
from torch import nn

import probe
from probe.reading.ranks import _everywhere, gathered
from probe.testing import noise_images, padded_net

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA is at hand"),
    pytest.mark.filterwarnings("ignore::probe.ProbeWarning"),
]


@pytest.fixture(autouse=True)
def plain_products():
    """Without TF32, which keeps ten bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def assert_same(first, second, tolerance):
    assert list(first.data_vars) == list(second.data_vars)
    for name, values in first.data_vars.items():
        np.testing.assert_allclose(second[name], values, atol=tolerance, err_msg=str(name))


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_scores_are_those_of_a_cpu(name):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    images, options = noise_images(48, 224), {"positions": 100, "progress": False}
    there = probe.collect(model, images, device="cuda", **options)
    here = probe.collect(model, images, device="cpu", **options)
    assert next(model.parameters()).device.type == "cpu"
    assert_same(probe.layerwise(here), probe.layerwise(there), 1e-4)
    assert_same(probe.channelwise(here), probe.channelwise(there), 1e-4)


@pytest.mark.parametrize("method", ["flip", "shift", "omega2", "readout", "attribution"])
def test_rankings_are_those_of_a_cpu(method):
    net, images = padded_net(depth=2), noise_images(60, 16)
    options = {"method": method, "progress": False}
    here, there = (probe.rank_channels(net, images, "conv2", device=d, **options) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(there.sortby("index").score, here.sortby("index").score, atol=1e-4)


def test_an_ablation_curve_is_that_of_a_cpu():
    net, images = padded_net(depth=2), noise_images(40, 16)
    options = {
        "score": {"mean": lambda output: output.mean((1, 2, 3))},
        "counts": [2, 4],
        "draws": 2,
        "progress": False,
    }
    curves = [probe.ablation_curve(net, images, range(16), layer="conv1", device=d, **options) for d in ("cpu", "cuda")]
    assert_same(*curves, 1e-4)


def test_sums_of_both_merge_and_a_checkpoint_goes_on_there(tmp_path):
    net, images = padded_net(depth=2), noise_images(40, 16)
    options = {"positions": 50, "progress": False}
    whole = probe.collect(net, images, **options)
    first = probe.collect(net, images, shard=(1, 2), device="cuda", **options)
    second = probe.collect(net, images, shard=(2, 2), device="cpu", **options)
    assert_same(probe.layerwise(whole), probe.layerwise(second.merge(first)), 1e-4)
    for _ in range(2):
        again = probe.collect(net, images, device="cuda", checkpoint=tmp_path / "sums.ck", **options)
    assert_same(probe.layerwise(whole), probe.layerwise(again), 1e-4)


def test_hooks_do_not_wait():
    """From the second batch on; the first one decides."""
    torch.manual_seed(0)
    model, runs = torchvision.models.resnet18(weights=None).eval().cuda(), []

    def forward(model, images):
        runs.append(None)
        torch.cuda.set_sync_debug_mode("error" if len(runs) > 6 else "default")
        try:
            return model(images)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    probe.collect(model, noise_images(320, 64).cuda(), batch_size=32, forward=forward, progress=False)
    assert len(runs) > 16


def test_where_memory_ends_the_cure_is_told_and_the_model_is_as_it_was(left_as_found):
    net, images = padded_net(depth=2, width=64), noise_images(64, 512)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError) as raised, left_as_found(net):
            probe.layerwise(net, images, batch_size=64, device="cuda", progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert "batch_size" in " ".join(raised.value.__notes__)


def test_sums_that_do_not_fit_are_told_beforehand():
    wide = nn.Sequential(nn.Conv2d(3, 100_000, 1, bias=False), nn.Conv2d(100_000, 100_000, 1, groups=100_000))
    with pytest.raises(probe.TooLargeError, match="memory are free on cuda"):
        probe.layerwise(wide, noise_images(10, 2), device="cuda", progress=False)


def test_one_rank_of_nccl():
    net, images = padded_net(depth=2), noise_images(40, 16)
    alone = probe.layerwise(net, images, device="cuda", maps="conv2", progress=False)
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29511", RANK="0", WORLD_SIZE="1")
    dist.init_process_group("nccl")
    try:
        assert_same(alone, probe.layerwise(net, images, device="cuda", maps="conv2", progress=False), 1e-6)
        assert gathered({"rank": 0}) == [{"rank": 0}]
        for device in ("cpu", "cuda"):
            tensor = torch.arange(3.0, device=device)
            assert torch.equal(_everywhere(tensor, dist.all_reduce), tensor)
    finally:
        dist.destroy_process_group()
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
            del os.environ[name]
