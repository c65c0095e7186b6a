"""Scores of settings -> curves: what is lost without ranked channels, beside what is lost without random ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from probe.ablation.later_readouts import Estimates
from probe.ablation.plans import Plan
from probe.intervals import jackknife

__all__ = ["contrast", "side_by_side"]

_MEANINGS = {
    "intact": "with all channels",
    "top": "without the channels ranked first",
    "bottom": "without the channels ranked last",
}
_DRAWN = {"random": "random channels", "matched": "random channels of the same mean |activation|"}


def contrast(estimates: Mapping[str, Estimates], plan: Plan, ranking: str, controls: Sequence[str]) -> xr.Dataset:
    """Return the curves of one ranking, on score, count and draw; `probe.ablation_curve` describes them.

    Parameters
    ----------
    estimates
        Name of the score -> its estimate for each setting of the plan.
    plan
        What was removed.
    ranking
        Name of the ranking in the plan.
    controls
        Of `probe.ablation.plans.CONTROLS`, those in the plan.

    Examples
    --------
    >>> plan = Plan([1], np.eye(2, dtype=bool), {("", part): np.array([0]) for part in ("top", "bottom")})
    >>> plan.places["", "intact"], plan.places["", "random"] = np.array(1), np.array([[1], [1]])
    >>> found = Estimates(np.array([0.5, 1.0]), np.array([[0.4, 1.0], [0.6, 1.0]]), np.ones(2))
    >>> contrast({"accuracy": found}, plan, "", ["random"]).top_minus_random.item()
    -0.5
    """
    places = {part: found for (owner, part), found in plan.places.items() if owner == ranking}
    scored = [_curve_of_score(found, places, controls) for found in estimates.values()]
    return xr.concat(scored, xr.Variable("score", list(estimates))).assign_coords(count=plan.counts)


def side_by_side(curves: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the curves of several rankings on ``ranking``, but for what they share."""
    first = next(iter(curves.values()))
    shared = [name for name in ("intact", "intact_se", "random") if name in first]
    own = [curve.drop_vars(shared) for curve in curves.values()]
    return xr.concat(own, xr.Variable("ranking", list(curves)), data_vars="all").assign(first[shared])


def _curve_of_score(found: Estimates, places: Mapping[str, np.ndarray], controls: Sequence[str]) -> xr.Dataset:
    curve = xr.Dataset()
    for name, meaning in _MEANINGS.items():
        dims = ("count",) if name != "intact" else ()
        curve[name] = (dims, found.values[places[name]], _described(f"score {meaning}"))
        error = jackknife(found.values[places[name]], found.left_out[:, places[name]], found.sizes)
        curve[f"{name}_se"] = (
            dims,
            error,
            _described(f"standard error of the score {meaning} (jackknife over images)"),
        )
    for control in controls:
        draws = places[control]
        drawn = found.values[draws]
        curve[control] = (("draw", "count"), drawn, _described(f"score without {_DRAWN[control]}"))
        difference = curve.top.values - drawn.mean(axis=0)
        left_out = found.left_out[:, places["top"]] - found.left_out[:, draws].mean(axis=1)
        over_images = jackknife(difference, left_out, found.sizes)
        over_draws = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
        meaning = f"score without the channels ranked first − mean without {_DRAWN[control]}"
        error = np.hypot(over_images, over_draws)
        curve[f"top_minus_{control}"] = ("count", difference, _described(meaning))
        curve[f"top_minus_{control}_se"] = ("count", error, _described(f"standard error: {meaning}"))
    return curve


def _described(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "score"}
