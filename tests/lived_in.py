"""A net as users have it, measured quietly."""

import torch
from torch import nn

import probe
from probe.testing import noise_images

IMAGES = noise_images(20, 8)


class UsersError(Exception):
    """An exception of the user's own."""


class LivedInNet(nn.Module):
    """A net as users have it: half in training, partly frozen, with hooks of their own.

    It can be told to fail, on batches of at least so many images.
    """

    def __init__(self, failure=None, fails_from=0):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU(inplace=True)
            self.dropout = nn.Dropout()
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
            self.unused = nn.Conv2d(4, 4, 1)
        self.norm.eval()
        self.conv1.weight.requires_grad_(False)
        self.conv2.weight.grad = torch.ones_like(self.conv2.weight)
        self.norm.register_forward_hook(lambda module, inputs, output: None)
        self.norm.register_forward_hook(lambda module, inputs, output: output, prepend=True, always_call=True)
        self.conv2.register_forward_pre_hook(lambda module, inputs, kwargs: None, with_kwargs=True)
        self.conv2.register_full_backward_hook(lambda module, inputs, outputs: None)
        self.register_state_dict_post_hook(lambda *arguments: None)
        self.failure, self.fails_from = failure, fails_from

    def forward(self, images):
        maps = self.dropout(self.relu(self.norm(self.conv1(images))))
        if self.failure is not None and len(images) >= self.fails_from:
            raise self.failure
        return self.conv2(maps)


def run(measure, model, images=IMAGES, **options):
    """Call a public function quietly, on every cell."""
    if measure is not probe.list_layers:
        options.setdefault("progress", False)
        if measure is not probe.channelwise:
            options.setdefault("positions", None)
    return measure(model, images, **options)


def scores(model, images=IMAGES, **options):
    return run(probe.layerwise, model, images, **options).drop_attrs()
