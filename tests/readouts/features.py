"""Samples of features whose position is known, and the sums of them that erasers are fitted to."""

import torch
from torch import Tensor, nn

import probe

N_IMAGES, GRID, CHANNELS = 40, (6, 5), 8


class Given(nn.Module):
    """Gives the maps that the images are: features are what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


def feature_maps(seed: int = 0, *, n_images: int = N_IMAGES, dtype: torch.dtype = torch.float64) -> Tensor:
    """Maps (image, channel, row, column) of noise with row, column and their product mixed into all channels."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in GRID), indexing="ij")
    position = torch.stack([row, column, row * column]).double()
    mixing = torch.randn(CHANNELS, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_images, CHANNELS, *GRID, generator=generator, dtype=torch.float64)
    spread = torch.randn(CHANNELS, CHANNELS, generator=generator, dtype=torch.float64)
    maps = torch.einsum("cd,ndrk->ncrk", spread, noise) + torch.einsum("ct,trk->crk", mixing, position) + 5
    return (maps / 8).to(dtype)


def statistics_of(maps: Tensor, **options: object) -> probe.Statistics:
    """Sums of all cells of maps, under the natural stimulus alone."""
    given = {"layers": "layer", "stimuli": "natural", "positions": None, "progress": False, **options}
    return probe.collect(Given(), maps, **given)


def samples(maps: Tensor) -> Tensor:
    """Maps as samples, shape (sample, channel)."""
    return maps.movedim(1, -1).flatten(0, -2)


def positions(maps: Tensor) -> Tensor:
    """Row and column of each sample, shape (sample, 2)."""
    height, width = maps.shape[2:]
    row, column = (2 * torch.arange(side, dtype=torch.float64) / side + 1 / side - 1 for side in (height, width))
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1)
    return grid.expand(len(maps), height, width, 2).reshape(-1, 2)


def readable(features: Tensor, values: Tensor) -> Tensor:
    """In-sample R² of least squares with an intercept, for each column of values."""
    design = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    fitted = design @ torch.linalg.lstsq(design, values, driver="gelsd").solution
    return 1 - (values - fitted).square().sum(dim=0) / (values - values.mean(dim=0)).square().sum(dim=0)
