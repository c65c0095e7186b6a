"""Networks that studies train, for use in one's own training loop as well; all are imported from here.

Small ones of four convolutions; residual networks, of CIFAR and with torchvision's layers, as S-Conv or F-Conv, with or
without BlurPool; AugShift; weights of a seed; and how many multiplications a network takes.
"""

from probe.analyses.nets.arithmetic import matched_width, multiply_adds
from probe.analyses.nets.augshift import AugShift, AugShiftLoss
from probe.analyses.nets.blocks import BORDERS
from probe.analyses.nets.cifar import CifarResNet, cifar_resnet
from probe.analyses.nets.residual import DEPTHS, ResidualNet, residual_net
from probe.analyses.nets.seeds import seeded
from probe.analyses.nets.small import small_net, small_segmenter

__all__ = [
    "BORDERS",
    "DEPTHS",
    "AugShift",
    "AugShiftLoss",
    "CifarResNet",
    "ResidualNet",
    "cifar_resnet",
    "matched_width",
    "multiply_adds",
    "residual_net",
    "seeded",
    "small_net",
    "small_segmenter",
]
