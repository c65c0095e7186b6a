"""What results hold: the names, meanings and units of their variables, their kinds, and parts of them."""

import pandas as pd
import xarray as xr

__all__ = ["FEW_IMAGES", "FEW_SAMPLES", "KINDS", "SCHEMA", "VARIABLES", "layer_map", "published_table"]

SCHEMA = "position-probe result 1"

VARIABLES = {
    "r2": ("R² of the position readout", "1"),
    "r2_fold": ("R² within each fold", "1"),
    "r2_se": ("standard error of R² (jackknife over folds of images)", "1"),
    "r2_null": ("R² with positions shuffled in every image", "1"),
    "r2_control": ("mean R² of fixed random permutations of the target", "1"),
    "bits": ("position as a Gaussian-equivalent scale", "bit"),
    "omega2": ("share of a channel's variance explained by position, ω²", "1"),
    "omega2_se": ("standard error of ω² (jackknife over folds of images)", "1"),
    "valid": ("whether all activations were finite", "1"),
    "n_dead": ("channels that do not vary", "1"),
    "mean_map": ("mean activation over images", "activation"),
    "decoded_map": ("readout applied to the mean activation", "target"),
    "similarity": ("cosine similarity to the features at a reference, mean over objects", "1"),
    "global_similarity": ("mean cosine similarity over all positions", "1"),
    "local_roughness": ("mean distance of the similarity from that at its two neighbours", "1"),
}
"""Long name and units of each variable of a result."""

FEW_SAMPLES = 5
"""A readout that saw fewer samples for each channel underestimates what can be read: each half of them is fitted."""

FEW_IMAGES = 20
"""Errors and intervals from fewer images are rough, since the cells of one image are alike."""

KINDS = {
    "layerwise": "probe.layerwise",
    "channelwise": "probe.channelwise",
    "ranking": "probe.rank_channels",
    "rankings": "probe.compare_rankings",
    "ablation_curve": "probe.ablation_curve",
    "erasure_proof": "probe.erasure_proof",
    "erasure_curve": "probe.erasure_curve",
    "erasure_matrix": "probe.erasure_matrix",
    "stronger_readouts": "probe.stronger_readouts",
    "pooled": "probe.pooled",
    "similarity": "probe.shift_similarity",
    "shift_consistency": "probe.shift_consistency",
    "neighbours": "probe.neighbours",
    "border_profile": "probe.border_profile",
    "audit": "probe.audit",
    "padding_comparison": "probe.analyses.padding_comparison.study.run",
    "channels": "probe.analyses.channels.study.run",
    "overview": "probe.analyses.overview.study.run",
    "comparison": "probe.analyses.overview.comparison.compare",
    "study": "probe.analyses.NAME.run",
}
"""Every kind of result, and the call that makes it."""


def layer_map(result: xr.Dataset, name: str, layer: str) -> xr.DataArray:
    """Return the variable `name` (``mean_map`` or ``decoded_map``) of a layer.

    Each layer has its own grid, so its maps are a variable of their own, on dimensions of their own; here they are
    called ``channel``, ``row`` and ``column``, of clips and volumes also ``frame``.

    Raises
    ------
    KeyError
        If the result has no such map.
    """
    for key, variable in result.data_vars.items():
        if str(key).startswith(f"{name}_") and variable.attrs.get("layer") == layer:
            return variable.rename({d: str(d).rstrip("0123456789").rstrip("_") for d in variable.dims})
    raise KeyError(f"no {name} of layer {layer!r}; name it in maps=")


def published_table(result: xr.Dataset) -> pd.DataFrame:
    """Return the numbers of a study beside the published ones.

    Parameters
    ----------
    result
        Of a study, with ``published``, ``here`` and ``here_sd``.

    Returns
    -------
    pandas.DataFrame
        A column for each dim of ``here``, then ``published``, ``here``, ``here_sd``, the number of ``seeds`` and the
        ``difference`` here − published. What is neither published nor measured has no row.
    """
    numbers = result[["published", "here", "here_sd"]]
    numbers = numbers.drop_vars(set(numbers.coords) - set(numbers.dims))
    table = numbers.to_dataframe(dim_order=list(result.here.dims)).reset_index()
    table["seeds"] = result.here_by_seed.notnull().sum("seed").values.ravel()
    table["difference"] = table.here - table.published
    return table.dropna(subset=["published", "here"], how="all").reset_index(drop=True)
