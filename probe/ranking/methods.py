"""Which channels of a layer carry position: rankings by several methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.errors import ArgumentError, ImagesError, warn
from probe.images.rows import Transform
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.ranking.displacement import AXES, DISPLACEMENTS, score_displacements
from probe.ranking.position_strengths import score_attributions, score_omega2, score_readout_losses
from probe.ranking.strengths import ASCENDING, ChannelStrengths, default_stimulus, rank_correlation
from probe.reading.options import AUTO, Options, TargetSelection
from probe.results import finish

__all__ = ["RANKING_METHODS", "rank_channels"]

RANKING_METHODS = {
    "flip": ("mean change of the map's mean when the image is mirrored", "activation"),
    "shift": ("mean change of the map's mean when the image is rolled by half", "activation"),
    "omega2": ("share of the channel's variance explained by position, ω²", "1"),
    "readout": ("R² of position that the readout loses without the channel", "1"),
    "attribution": ("mean attribution of the position readout to the channel", "target"),
}
"""What each method of `rank_channels` measures, and its unit."""

_AXIS_OF_REGION = {
    **{"left": "horizontal", "right": "horizontal", "top": "vertical", "bottom": "vertical"},
    **{"first": "time", "last": "time"},
}


def rank_channels(
    model: nn.Module,
    images: Any,
    layer: Any,
    *,
    method: str = "flip",
    axis: str = "horizontal",
    region: str | None = None,
    captum_method: str = "LayerGradientXActivation",
    targets: TargetSelection = AUTO,
    stimulus: str | None = None,
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
    alpha: float = 1e-3,
    positions: str | int | None = "auto",
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Rank the channels of a layer by how much they carry position.

    The commonest uses::

        probe.rank_channels(model, images, "layer4")
        probe.rank_channels(model, images, "layer4", method="omega2")
        probe.rank_channels(model, clips, "layer4", axis="time")

    Five methods ask five questions, and need not agree; see `compare_rankings`.

    - ``flip`` (Islam et al. 2021): with z the output averaged over its map, Δz = z(x) − z(mirrored x). Overall: mean
      ``|Δz|`` over the images. With a `region`: mean Δz, largest first for left, top and first, smallest first for
      right, bottom and last. Along time, a clip is played backwards. It mixes position with the orientation of content,
      and cannot see a channel whose mean over the map is fixed: a pure coordinate scores 0. Where images face either
      way equally often, mean Δz is close to 0 and the order by region is noise: see ``stability``.
    - ``shift``: the same, with x rolled circularly by half its width, height or length (an odd one: rounded down)
      instead of mirrored: position changes, orientation does not. It cannot see a pure coordinate either.
    - ``omega2``: share of the channel's variance that position explains, linearly or not; see `channelwise`.
    - ``readout``: held-out R², the mean over targets, that the linear readout of position loses when it is refitted
      without the channel, under the same penalty. Low for a channel that others can replace.
    - ``attribution``: what captum attributes of the linear readout's output to the channel, from its mean on: mean
      ``|attribution|`` over the readout's cells, images and targets. For a linear readout gradient × activation is
      exact, weight · (activation − mean), and takes one backward pass; integrated gradients, DeepLift and feature
      ablation agree with it.

    Parameters
    ----------
    model
        As in `collect`.
    images
        As in `collect`. ``attribution`` reads them twice, so an iterator will not do.
    layer
        Name of a layer, or a module of the model that is called once.
    method
        One of the above.
    axis
        For flip and shift: ``"horizontal"``, ``"vertical"``, or ``"both"``, the mean of the two, which takes three
        forward passes instead of two; of clips also ``"time"``.
    region
        For flip and shift: ``"left"`` or ``"right"``, ``"top"`` or ``"bottom"`` (with ``axis="vertical"``), or the
        ``"first"`` or ``"last"`` frames (with ``axis="time"``).
    captum_method
        For attribution: name of a class of captum that attributes to a layer.
    targets, alpha, positions
        Of the readout, as in `layerwise`.
    stimulus
        One of ``probe.STIMULI``; by default ``"natural"`` for flip and shift, as published, and ``"rolled"`` for the
        others, since content tells position as well.
    folds, groups
        Of the readout, as in `layerwise`. With `groups`, the halves keep them together too, and there must be twice
        as many as folds; four for omega2.
    batch_size, num_workers, device, autocast, transform, input_key, layout, forward, max_images, seed, progress
        As in `collect`.

    Returns
    -------
    xarray.Dataset
        On ``channel``, sorted: ``score``, ``rank`` (1: strongest), and the coordinates ``index``, the number of the
        channel in the layer, and ``layer``. Channels that do not vary, or are not finite, have the score NaN and come
        last. ``stability``: Spearman's correlation of the scores from two halves of the images, even and odd image
        numbers.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global pooling, more than meets the eye: position information is encoded
    channel-wise in CNNs. ICCV 2021.

    Examples
    --------
    The last two channels are the coordinates.

    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> net, images = CoordinateNet(), noise_images(20)
    >>> probe.rank_channels(net, images, "identity", method="omega2", progress=False).index.values[:2]
    array([3, 4])
    >>> probe.rank_channels(net, images, "identity", method="flip", progress=False).score.values[-2:]
    array([0., 0.])
    """
    _check(method, axis, region, stimulus, alpha)
    options = Options(
        layers=layer, targets=targets, stimuli=stimulus or default_stimulus(method), folds=folds, groups=groups,
        positions=positions, batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast,
        transform=transform, input_key=input_key, layout=layout, forward=forward, max_images=max_images,
        seed=seed, progress=progress, task=f"ranking {method}",
    )  # fmt: skip
    if method in DISPLACEMENTS:
        strengths = score_displacements(model, images, options, method=method, axis=axis, signed=region is not None)
    elif method == "omega2":
        strengths = score_omega2(model, images, options)
    elif method == "readout":
        strengths = score_readout_losses(model, images, options, alpha)
    else:
        strengths = score_attributions(model, images, options, alpha, captum_method)
    named = {
        "method": method,
        "axis": axis if method in DISPLACEMENTS else "",
        "region": region or ("overall" if method in DISPLACEMENTS else ""),
        "stimulus": options.stimulus_names[0],
    }
    settings = {
        "targets": strengths.targets or list(options.target_functions), "folds": folds, "groups": groups is not None,
        "alpha": alpha, "positions": positions, "captum_method": captum_method,
        "autocast": options.precision and str(options.precision),
    }  # fmt: skip
    return _ranked(strengths, named, settings)


def _check(method: str, axis: str, region: str | None, stimulus: str | None, alpha: float) -> None:
    if method not in RANKING_METHODS:
        raise ArgumentError(f"method={method!r}: expected one of {', '.join(RANKING_METHODS)}.")
    if axis not in AXES:
        raise ArgumentError(f"axis={axis!r}: expected one of {', '.join(AXES)}.")
    if region is not None and region not in _AXIS_OF_REGION:
        raise ArgumentError(f"region={region!r}: expected None (overall) or one of {', '.join(_AXIS_OF_REGION)}.")
    if stimulus is not None and not isinstance(stimulus, str):
        raise ArgumentError(f"stimulus={stimulus!r}: expected the name of one stimulus.")
    if method not in DISPLACEMENTS and (region is not None or axis != "horizontal"):
        raise ArgumentError(f"method={method!r} has neither axis= nor region=; {' and '.join(DISPLACEMENTS)} have.")
    if not alpha > 0:
        raise ArgumentError(f"alpha={alpha!r}: expected a number above 0. The default is 1e-3.")
    if region is not None and _AXIS_OF_REGION[region] != axis:
        raise ArgumentError(f"region={region!r} needs axis={_AXIS_OF_REGION[region]!r}, found {axis!r}.")


def _ranked(strengths: ChannelStrengths, named: dict[str, str], settings: dict[str, Any]) -> xr.Dataset:
    """Sort channels by their scores, and add how far two halves of the images agree on them."""
    layer, facts = strengths.layer, strengths.facts
    warned: list[str] = []
    if facts.n_images < 2:
        raise ImagesError("images: 1 found; a ranking needs at least 2, one in each half of the images.")
    scores = np.where(np.isfinite(strengths.scores), strengths.scores, np.nan)
    unknown = int(np.isnan(scores).sum())
    if unknown:
        warn(
            f"{unknown} of {len(scores)} channels of {layer.name} do not vary or are not finite: they have no score "
            "and come last.",
            warned,
        )
    order = np.argsort(scores if named["region"] in ASCENDING else -scores, kind="stable")
    long_name, units = RANKING_METHODS[named["method"]]
    result = xr.Dataset(
        {
            "score": ("channel", scores[order], {"long_name": long_name, "units": units}),
            "rank": ("channel", np.arange(1, len(scores) + 1), {"long_name": "rank, 1 is strongest", "units": "1"}),
            "stability": (
                (),
                rank_correlation(*strengths.halves),
                {"long_name": "rank correlation between two halves of the images", "units": "1"},
            ),
        },
        coords={"index": ("channel", order), "layer": ("channel", np.full(len(scores), layer.name))},
    )
    return finish(result, kind="ranking", facts=facts.warned(warned), settings=settings, layer=layer.name, **named)
