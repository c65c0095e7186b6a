"""Several models side by side, from the results of each. Never loads torch."""

import json
from collections.abc import Mapping

import xarray as xr

from probe.bundles import bundle
from probe.errors import ArgumentError, told_once
from probe.results import Facts, finish

__all__ = ["compare"]


def compare(results: Mapping[str, xr.Dataset], *, command: str = "") -> xr.Dataset:
    """Join the results of several models into one.

    Parameters
    ----------
    results
        What each model is to be called -> its result of `probe.analyses.overview.study.run`; two or more.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        All of them, as `probe.bundles.bundle` joins them, by their number; the attribute ``names`` tells the names.

    Raises
    ------
    ArgumentError
        If there are fewer than two, or one is of another kind.
    """
    if len(results) < 2:
        raise ArgumentError(f"results: expected two models or more, found {len(results)}.")
    for name, result in results.items():
        if result.attrs.get("kind") != "overview":
            raise ArgumentError(
                f"results: {name} is of the kind {result.attrs.get('kind')!r}; expected 'overview', as "
                "`probe report model` saves it."
            )
    whole = bundle({str(number): result for number, result in enumerate(results.values())})
    warned = told_once(
        (name, message) for name, one in results.items() for message in json.loads(one.attrs.get("warnings", "[]"))
    )
    first, *others = results.values()
    alike = all(one.attrs.get("images_digest") == first.attrs.get("images_digest") for one in others)
    if not alike:
        warned.append("The models were not shown the same images, pixel by pixel: differences hold those of images.")
    return finish(
        whole,
        kind="comparison",
        facts=Facts(warnings=tuple(warned)),
        settings={"models": [str(one.attrs.get("model", "")) for one in results.values()]},
        command=command,
        names=list(results),
        same_images=int(alike),
        parts=whole.attrs["parts"],
    )
