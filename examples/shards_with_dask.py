"""Collect the sums of a data set in shards, wherever Dask runs them, and merge them.

Ray takes the same two functions: ``ray.get([ray.remote(collect_shard).remote(k, n) for k in range(1, n + 1)])``.
"""

import functools

import dask
import xarray as xr

import probe
from probe.testing import noise_images, padded_net


def collect_shard(k: int, n: int) -> probe.Statistics:
    """Read the k-th of n shares; where it runs, the model and the images must be the same."""
    model, images = padded_net("zeros"), noise_images(100)
    return probe.collect(model, images, shard=(k, n), progress=False)


def measure(n_shards: int, scheduler: str = "processes") -> xr.Dataset:
    """Return the scores of all images."""
    shards = [dask.delayed(collect_shard)(k, n_shards) for k in range(1, n_shards + 1)]
    merged = functools.reduce(probe.Statistics.merge, dask.compute(*shards, scheduler=scheduler))
    assert not merged.missing
    return probe.layerwise(merged)


if __name__ == "__main__":
    print(measure(4).r2.sel(stimulus="rolled").to_pandas())
