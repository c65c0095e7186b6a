"""What the command prints of a result: its main numbers as rows, as text and as JSON. No torch."""

import json
from pathlib import Path

import pandas as pd
import xarray as xr

from probe.reports.glance.summaries import kind_of
from probe.reports.glance.text import WIDEST, attribute, write_table

__all__ = ["WIDEST", "summarise", "write_json", "write_table"]


def summarise(result: xr.Dataset) -> pd.DataFrame:
    """Return the main numbers of a result, a row each.

    Parameters
    ----------
    result
        Of any kind.

    Returns
    -------
    pandas.DataFrame
        For layers, a row each layer, stimulus and target (of each network): ``r2``, ``r2_se``, ``r2_null``,
        ``r2_control``, ``bits``. For channels, a row each layer and stimulus: the number of ``channels`` that could be
        scored, the mean and largest of their ``omega2``, and which channel is the ``strongest``. For a ranking, a row
        each channel; for several, one each pair. For ablation curves, one each ranking, score and count. For studies,
        see `probe.results.published_table`. For audits, a row each layer: its input, kernel and stride along rows, and
        the padding of each side, all of it and what is unread of it.

    Raises
    ------
    ArgumentError
        If the result is of no kind of probe's.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> summarise(result).query("layer == 'conv4' and target == 'row'").r2.gt(0.1).tolist()
    [True, True]
    """
    return kind_of(result).rows(result)


def write_json(result: xr.Dataset, file: Path | None) -> str:
    """Write the main numbers of a result as JSON, with what it is of, the layers that were skipped, and all warnings.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.layerwise(CoordinateNet(), noise_images(200), stimuli="rolled", progress=False)
    >>> content = json.loads(write_json(result, Path("result.nc")))
    >>> content["kind"], content["skipped"], content["scores"][-1]["layer"]
    ('layerwise', {}, 'identity')
    """
    names = ("kind", "model", "weights", "weights_digest", "n_images", "images_digest", "command")
    content = {
        "file": None if file is None else str(file),
        **{name: result.attrs.get(name) for name in names},
        "skipped": attribute(result, "skipped", {}),
        "warnings": attribute(result, "warnings", []),
        "scores": json.loads(summarise(result).to_json(orient="records", double_precision=15)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, default=lambda number: number.item())
