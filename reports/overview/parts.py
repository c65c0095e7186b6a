"""What the result of one model holds: its parts, those that are not there, and the layer to speak of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from probe.bundles import unbundle
from probe.errors import ArgumentError
from probe.reports.page.estimates import Estimate
from probe.reports.page.position import best_read, position, position_change
from probe.reports.page.provenance import json_attribute

__all__ = ["LEAST_AGREEMENT", "NAMES", "VARIANTS", "Overview"]

VARIANTS = {
    "padding_reflect": "reflect padding",
    "padding_replicate": "replicate padding",
    "padding_circular": "circular padding",
    "padding_valid": "no padding",
    "embedding_zero": "no position embedding",
    "sampling_blur": "blurred sampling",
}
"""Parts in which one thing of the model is changed, and what they are called."""

NAMES = {
    "where": "Position by layer",
    "untrained": "The untrained twin",
    **{part: name.capitalize() for part, name in VARIANTS.items()},
    "audit": "Padding that is never read",
    "border": "How far the border reaches",
    "channels": "Single channels",
    "rankings": "Rankings of channels",
    "ablation": "Without single channels",
    "erasing": "Without directions",
    "stronger": "Stronger readouts",
    "rereading": "Position read anew behind",
    "neighbours": "Nearest neighbours",
    "consistency": "Predictions under shifts",
}
"""What each part is called."""

LEAST_AGREEMENT = 0.5
"""With fewer predictions as before, a model does its task no more, and what its features tell means little."""

_PIXELS = "input"


@dataclass(frozen=True)
class Overview:
    """The parts of the result of one model.

    Attributes
    ----------
    parts : dict
        Name -> result.
    failed, absent : dict
        Name -> why there is none.
    layer : str
        Where channels are ranked and directions erased.
    model : str
        Its name.
    weights : str
        Where its weights come from, as the command tells it; empty where that is not known.
    """

    parts: Mapping[str, xr.Dataset]
    failed: Mapping[str, str]
    absent: Mapping[str, str]
    layer: str
    model: str
    weights: str = ""

    @classmethod
    def of(cls, result: xr.Dataset) -> "Overview":
        """Return that of a result of `probe.analyses.overview.study.run`.

        Raises
        ------
        ArgumentError
            If it is of another kind, or its first part is missing.
        """
        if result.attrs.get("kind") != "overview":
            raise ArgumentError(
                f"result: expected kind='overview', found {result.attrs.get('kind')!r}. Make one with "
                "`probe report model`."
            )
        parts = unbundle(result)
        if "where" not in parts:
            raise ArgumentError("result: its part 'where' is missing, on which all others build.")
        failed, absent = (json_attribute(result, name) for name in ("failed", "absent"))
        layer, model, weights = (str(result.attrs.get(name) or "") for name in ("layer", "model", "weights"))
        return cls(parts, failed, absent, layer, model or "a model", weights)

    @property
    def state(self) -> str:
        """What the model is called beside its untrained twin, or alone: trained only where weights were given."""
        if "random" in self.weights:
            return "as it is (random)"
        return "trained" if self.weights or "untrained" in self.parts else "as it is"

    @property
    def where(self) -> xr.Dataset:
        """Position by layer, on which all else builds."""
        return self.parts["where"]

    @property
    def variants(self) -> dict[str, xr.Dataset]:
        """Name -> position by layer, of the model with one thing changed."""
        return {name: self.parts[part] for part, name in VARIANTS.items() if part in self.parts}

    @property
    def peak(self) -> str:
        """The layer from which position is read best on rolled images, of those that all changed models have."""
        layers = [str(name) for name in self.where.layer.values if str(name) != _PIXELS]
        everywhere = [name for name in layers if all(name in one.layer.values for one in self.variants.values())]
        layers = everywhere or layers or [_PIXELS]
        found = {name: self.read(self.where, name) for name in layers}
        known = [name for name in layers if found[name].is_known] or layers[-1:]
        return best_read(found) or max(known, key=lambda name: found[name].low)

    def read(self, result: xr.Dataset, layer: str, stimulus: str = "rolled") -> Estimate:
        """Return R² of position at a layer of a part; not known where the part does not have it."""
        if layer not in result.layer.values:
            return Estimate(np.nan, np.nan, 0)
        return position(result.sel(layer=layer, stimulus=stimulus))

    def change(self, result: xr.Dataset, layer: str, stimulus: str = "rolled") -> Estimate:
        """Return R² of a part − that of the model as it is; not known where the part does not have the layer."""
        if layer not in result.layer.values:
            return Estimate(np.nan, np.nan, 0)
        at = {"layer": layer, "stimulus": stimulus}
        return position_change(result.sel(at), self.where.sel(at))

    @property
    def broken(self) -> dict[str, float]:
        """The changed models that do their task no more, with the share of predictions that are as before.

        These are too few, or no more than one and the same answer to all images would get.
        """
        shares = {name: self.agreement(name) for name in self.variants}
        constant = {name: float(one.get("constant_agreement", np.nan)) for name, one in self.variants.items()}
        return {name: share for name, share in shares.items() if share < LEAST_AGREEMENT or share <= constant[name]}

    @property
    def own_shares(self) -> dict[str, float]:
        """What a changed model's predictions are told by, of the model as it is, as far as it is known."""
        constant = [float(one.constant_agreement) for one in self.variants.values() if "constant_agreement" in one]
        found = {"agreement_with_own": 1.0, "commonest_share": constant[0]} if constant else {}
        scored = next((self.parts[name] for name in ("ablation", "erasing") if name in self.parts), None)
        if scored is not None and "accuracy" in scored.score.values:
            found["accuracy"] = float(scored.intact.sel(score="accuracy"))
        return found

    def agreement(self, variant: str) -> float:
        """Return the share of predictions of a changed model that are as before; NaN where there are no classes."""
        return float(self.variants[variant].get("agreement_with_own", np.nan))
