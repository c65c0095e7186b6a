"""Results of several networks -> one result, on (padding, seed, training) besides the dims of each."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probe.images.digests import joined_digests
from probe.results import Facts, finish, layer_map

__all__ = ["MeasuredNetwork", "join_networks", "warnings_of"]

_DIMS = ("padding", "seed", "training")
_TRAININGS = ("trained", "untrained")
_LAYER_SCORES = ["r2", "r2_se", "r2_fold", "r2_null", "r2_control", "bits", "n_dead"]
_LAYER_FACTS = ["n_channels", "height", "width", "samples_per_feature"]
_STRONGEST = 4
_SHARES = {
    "accuracy": {"long_name": "share of images whose predicted class is their label", "units": "1"},
    "agreement": {
        "long_name": "share of images with the same predicted class at two independent placements",
        "units": "1",
    },
    "agreement_with_own": {
        "long_name": "share of images with the same predicted class as under the model's own padding",
        "units": "1",
    },
    "commonest_share": {"long_name": "share of images with the most frequent predicted class", "units": "1"},
}
_STRONGEST_CHANNELS = {"long_name": "channels with the highest ω² on rolled images", "units": "channel"}


@dataclass(frozen=True)
class MeasuredNetwork:
    """The scores of the network that is `which` (padding, seed, training), by layer and by channel.

    `shares` are those of `_SHARES` that are known of it.
    """

    key: tuple[str, int, str]
    layers: xr.Dataset
    channels: xr.Dataset
    shares: dict[str, float]


def join_networks(
    networks: Sequence[MeasuredNetwork], /, *, warnings: Sequence[str], settings: Mapping[str, Any], **named: Any
) -> xr.Dataset:
    """Join the results of networks; what one of them does not have is NaN.

    Parameters
    ----------
    networks
        In the order that the paddings shall have.
    warnings, settings, **named
        Of the result; see `probe.results.finish`.

    Returns
    -------
    xarray.Dataset
        As `probe.analyses.padding_comparison.study.run` describes it.
    """
    scores = [
        xr.merge([_layer_scores(network), _channel_scores(network)], combine_attrs="drop") for network in networks
    ]
    names = {dim: _in_order(list(score[dim].values) for score in scores) for dim in ("layer", "channel")}
    aligned = [score.reindex(names) for score in scores]
    key = pd.MultiIndex.from_tuples([network.key for network in networks], names=_DIMS)
    joined = xr.concat(
        aligned,
        "network",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="drop",
    )
    joined = joined.assign_coords(xr.Coordinates.from_pandas_multiindex(key, "network")).unstack("network")
    # Unstacking sorts; paddings and trainings have an order of their own.
    paddings = list(dict.fromkeys(key.get_level_values("padding")))
    trainings = [training for training in _TRAININGS if training in key.get_level_values("training")]
    result = joined.reindex(padding=paddings, training=trainings)
    result = result.transpose(*_DIMS, ...).assign_coords(_coordinates(result, networks))
    trained = [network for network in networks if network.key[2] == "trained"]
    chosen = {}
    for index, padding in enumerate(result.padding.values):
        maps, chosen[f"strongest_channel_{index}"] = _last_maps([n for n in trained if n.key[0] == padding], index)
        result = result.assign(maps)
    result = finish(
        result,
        kind="padding_comparison",
        facts=_facts(networks).warned(warnings),
        settings=settings,
        weights_digests={", ".join(map(str, n.key)): n.layers.attrs["weights_digest"] for n in networks},
        **named,
    )
    return result.assign(chosen).assign(_shares(result, trained))


def _in_order(names: Iterable[list[str]]) -> list[str]:
    """Return all names, each once, in the order of the longest list."""
    return list(dict.fromkeys(name for some in sorted(names, key=len, reverse=True) for name in some))


def _layer_scores(network: MeasuredNetwork) -> xr.Dataset:
    layers = network.layers.reset_coords(_LAYER_FACTS)[[*_LAYER_SCORES, *_LAYER_FACTS]]
    return layers.drop_vars(["depth", "module_type", "call", "layout"])


def _channel_scores(network: MeasuredNetwork) -> xr.Dataset:
    channels = network.channels
    names = [f"{layer}:{index}" for layer, index in zip(channels.layer.values, channels["index"].values, strict=True)]
    return (
        channels[["omega2", "omega2_se"]]
        .drop_vars(["layer", "index", "target"], errors="ignore")
        .assign_coords(channel=names)
    )


def _coordinates(result: xr.Dataset, networks: Sequence[MeasuredNetwork]) -> dict[str, Any]:
    """Return what is known of layers and channels; sizes of maps depend on the padding."""
    types = {str(layer.item()): str(layer.module_type.item()) for n in networks for layer in n.layers.layer}
    layer_of, index_of = zip(*(str(name).rsplit(":", 1) for name in result.channel.values), strict=True)
    facts = (
        result[_LAYER_FACTS].sel(training="trained", drop=True).isel(seed=0, drop=True).transpose("padding", "layer")
    )
    return {
        **{name: facts[name] for name in _LAYER_FACTS},
        "depth": ("layer", np.arange(result.sizes["layer"])),
        "module_type": ("layer", [types[name] for name in result.layer.values]),
        "channel_layer": ("channel", list(layer_of)),
        "channel_index": ("channel", np.array(index_of, dtype=int)),
    }


def _last_maps(networks: Sequence[MeasuredNetwork], index: int) -> tuple[dict[str, xr.Variable], xr.Variable]:
    """Return the maps of the last layer of one padding's networks, and of which channels the mean maps are."""
    last = str(networks[0].layers.layer.values[-1])
    dims = (f"row_{index}", f"column_{index}")
    decoded, means, strongest = [], [], []
    for network in networks:
        omega2 = network.channels.omega2.sel(stimulus="rolled").values[network.channels.layer.values == last]
        chosen = np.argsort(-np.nan_to_num(omega2, nan=-np.inf), kind="stable")[:_STRONGEST]
        strongest.append(chosen)
        decoded.append(layer_map(network.layers, "decoded_map", last).values)
        means.append(layer_map(network.layers, "mean_map", last).values[:, chosen])
    about = {"padding": networks[0].key[0], "layer": last}
    maps = {
        f"decoded_map_{index}": xr.Variable(("seed", "stimulus", "target", *dims), decoded, about),
        f"mean_map_{index}": xr.Variable(("seed", "stimulus", "strongest", *dims), means, about),
    }
    return maps, xr.Variable(("seed", "strongest"), strongest, {**about, **_STRONGEST_CHANNELS})


def _shares(result: xr.Dataset, trained: Sequence[MeasuredNetwork]) -> dict[str, xr.Variable]:
    """Return the shares that are known, on (padding, seed)."""
    found = {}
    for name, about in _SHARES.items():
        values = np.full((result.sizes["padding"], result.sizes["seed"]), np.nan)
        for network in trained:
            padding, seed, _ = network.key
            values[result.padding.values == padding, result.seed.values == seed] = network.shares.get(name, np.nan)
        if not np.isnan(values).all():
            found[name] = xr.Variable(("padding", "seed"), values, about)
    return found


def warnings_of(networks: Sequence[MeasuredNetwork]) -> list[str]:
    """Return what the measurements warned of, each once, with the paddings under which it was so."""
    paddings: dict[str, dict[str, None]] = {}
    for network in networks:
        for result in (network.layers, network.channels):
            for message in json.loads(result.attrs["warnings"]):
                paddings.setdefault(message, {})[network.key[0]] = None
    return [f"{', '.join(found)}: {message}" for message, found in paddings.items()]


def _facts(networks: Sequence[MeasuredNetwork]) -> Facts:
    """Return where the numbers come from."""
    found = [Facts.of(network.layers) for network in networks]
    skipped = {name: reason for facts in found for name, reason in facts.skipped.items()}
    # Each network has weights of its own, and its warnings name its padding.
    digest = functools.reduce(joined_digests, sorted({facts.images_digest for facts in found}))
    return replace(found[0], weights_digest="", images_digest=digest, skipped=skipped, warnings=())
