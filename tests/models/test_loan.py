"""A borrowed model comes back as it was; so do the random states, devices and modes of the process."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from probe.errors import ArgumentError
from probe.models.loan import borrowed, resolve_device
from probe.testing import noise_images, padded_net

CPU = torch.device("cpu")


def mixed_net():
    net = padded_net(depth=2).train()
    net.conv2.eval()
    return net


class TestBorrowed:
    @pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
    def test_everything_is_handed_back(self, error, left_as_found):
        net = mixed_net()

        def use():
            with left_as_found(net), borrowed(net, CPU, seed=0):
                assert not any(module.training for module in net.modules())
                assert not torch.is_grad_enabled()
                torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
                if error is not None:
                    raise error

        if error is None:
            use()
        else:
            with pytest.raises(error):
                use()

    def test_draws_follow_from_the_seed(self):
        def draw(seed):
            with borrowed(nn.Identity(), CPU, seed):
                return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

        assert draw(1) == draw(1)
        assert all(first != second for first, second in zip(draw(1), draw(2), strict=True))
        assert draw(2**70) == draw(2**70)

    def test_gradients_come_back_in_every_mode(self):
        net = mixed_net()
        with torch.inference_mode(), borrowed(net, CPU, seed=0):
            assert not torch.ones(1).is_inference()
        with torch.no_grad(), borrowed(net, CPU, seed=0):
            pass
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    def test_a_second_thread_waits(self):
        entered, may_leave, order = threading.Event(), threading.Event(), []

        def first():
            with borrowed(nn.Identity(), CPU, seed=0):
                entered.set()
                may_leave.wait(10)
                order.append("first")

        def second():
            entered.wait(10)
            with borrowed(nn.Identity(), CPU, seed=0):
                order.append("second")

        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        entered.wait(10)
        threads[1].join(0.05)
        assert order == []
        may_leave.set()
        for thread in threads:
            thread.join(10)
        assert order == ["first", "second"]

    def test_one_thread_may_borrow_twice(self, left_as_found):
        net = mixed_net()
        with left_as_found(net), borrowed(net, CPU, seed=0):
            with left_as_found(net), borrowed(net, CPU, seed=1):
                pass
            assert not net.training

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("error", [False, True])
    def test_a_model_comes_back_from_another_device(self, error, left_as_found):
        net = mixed_net()
        torch.cuda.init()
        device = resolve_device("cuda", net)
        try:
            with left_as_found(net), borrowed(net, device, seed=0):
                assert next(net.parameters()).is_cuda
                torch.rand(3, device=device)
                if error:
                    raise ValueError
        except ValueError:
            assert error


class TestResolveDevice:
    def test_auto_is_where_the_model_is(self):
        assert resolve_device("auto", mixed_net()) == CPU
        assert resolve_device("auto", nn.Identity()) == CPU
        assert resolve_device("auto", nn.Conv2d(1, 1, 1, device="meta")) == torch.device("meta")
        assert resolve_device("auto", nn.BatchNorm2d(1, affine=False)) == CPU

    @pytest.mark.parametrize("device", ["cpu", CPU])
    def test_known(self, device):
        assert resolve_device(device, mixed_net()) == CPU

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta", "mps", None, 3.5, ["cpu"]])
    def test_unknown_or_absent(self, device, left_as_found):
        net = mixed_net()
        message = r"device=.* cannot be used: .*Use 'auto'.*'cpu' or 'cuda'"
        with pytest.raises(ArgumentError, match=message), left_as_found(net):
            resolve_device(device, net)


def test_images_are_not_needed_to_move():
    net = padded_net(depth=1)
    with borrowed(net, CPU, seed=0):
        assert net(noise_images(1, 4)).shape == (1, 16, 4, 4)
