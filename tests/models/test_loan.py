"""A borrowed model comes back as it was; so do the random states, devices and modes of the process."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, ModelError
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


class Captioned(nn.Module):
    """Images stand second, behind the numbers of words, as in CLIP."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.net = nn.Embedding(10, 8), padded_net("zeros", depth=2, width=8)
        self.scale = nn.Conv2d(8, 8, 1)

    def forward(self, input_ids, pixel_values=None):
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values")
        return self.embedded(pixel_values) + self.words(input_ids).mean(dim=1)

    def embedded(self, pixel_values):
        return self.scale(self.net(pixel_values)).mean(dim=(2, 3))


def with_words(model, images):
    return model(torch.ones(len(images), 4, dtype=torch.long), pixel_values=images)


class TestModelsOfSeveralInputs:
    images = noise_images(40, 12)
    measures = {  # noqa: RUF012
        "collect": lambda model, images, **options: probe.layerwise(probe.collect(model, images, **options)).r2,
        "layerwise": lambda model, images, **options: probe.layerwise(model, images, **options).r2,
        "channelwise": lambda model, images, **options: probe.channelwise(model, images, **options).omega2,
        "rank_channels": lambda model, images, **options: (
            probe.rank_channels(model, images, "net.conv2", **options).score
        ),
        "attribution": lambda model, images, **options: (
            probe.rank_channels(model, images, "net.conv2", method="attribution", **options).score
        ),
        "pooled": lambda model, images, **options: probe.pooled(model, images, grid=2, **options).accuracy,
        "ablation_curve": lambda model, images, **options: (
            probe.ablation_curve(
                model,
                images,
                range(8),
                layer="net.conv2",
                counts=[2, 4],
                draws=2,
                score=["agreement", "position"],
                **options,
            ).top
        ),
    }

    @pytest.mark.parametrize("measure", measures.values(), ids=measures)
    @pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
    @pytest.mark.parametrize(
        "forward", [with_words, lambda model, images: model.embedded(images)], ids=["further inputs", "another method"]
    )
    def test_forward_is_how_the_model_runs(self, measure, forward):
        class Alone(Captioned):
            def forward(self, *given, **named):
                return super().forward(*given, **named) if named else forward(self, *given)

        expected = measure(Alone(), self.images)
        np.testing.assert_array_equal(measure(Captioned(), self.images, forward=forward), expected)

    def test_list_layers_lists_what_forward_calls(self):
        table = probe.list_layers(Captioned(), self.images, forward=lambda model, images: model.embedded(images))
        assert table.calls["scale"] == 1
        assert table.calls["words"] == 0

    def test_a_model_that_needs_more_is_an_error_that_offers_forward(self):
        class Needing(Captioned):
            def forward(self, images, input_ids, *, mask):
                return self.embedded(images)

        with pytest.raises(
            ModelError, match=r"Needing needs input_ids, mask besides images; pass forward=.*\(model, im"
        ):
            probe.list_layers(Needing(), self.images)

    def test_an_error_that_further_inputs_may_cure_offers_forward(self):
        with pytest.raises(ValueError, match="You have to specify pixel_values") as raised:
            probe.list_layers(Captioned(), self.images)
        assert any(
            "first of (input_ids, pixel_values)" in note and "forward=" in note for note in raised.value.__notes__
        )

    def test_other_errors_are_passed_on_without_it(self):
        with pytest.raises(ZeroDivisionError) as raised:
            probe.list_layers(nn.Sequential(Failing()), self.images)
        assert not any("forward=" in note for note in raised.value.__notes__)

    def test_forward_must_be_a_function(self):
        with pytest.raises(ArgumentError, match=r"forward: expected a function.*found str"):
            probe.list_layers(Captioned(), self.images, forward="embedded")

    def test_an_ablation_looks_at_the_layers_as_the_user_calls_the_model(self):
        model, images = Captioned().eval(), self.images[:3]
        ids = torch.arange(6).reshape(3, 2)
        with torch.no_grad():
            intact = model(ids, images)
            with probe.ablate(model, {"scale": [1]}):
                ablated = model(ids, pixel_values=images)
            words = model.words(ids).mean(dim=1)
        torch.testing.assert_close(ablated[:, 1], words[:, 1])
        assert torch.equal(ablated[:, 0], intact[:, 0])


class Failing(nn.Module):
    def forward(self, images):
        return 1 / 0


class TestModes:
    def test_train_of_the_models_own_is_not_called(self):
        class Training(nn.Sequential):
            def train(self, mode=True):
                raise AssertionError("it was called")

        model = Training(nn.Conv2d(3, 4, 3), nn.Dropout())
        assert len(probe.list_layers(model, noise_images(1))) == 3
        assert model.training
        assert model[1].training

    def test_what_a_model_makes_of_itself_follows_its_mode(self):
        class Growing(nn.Module):
            def forward(self, images):
                self.part = nn.Dropout().eval()
                return images

        model = Growing()
        with borrowed(model, CPU, seed=0):
            model(noise_images(1))
        assert model.part.training
