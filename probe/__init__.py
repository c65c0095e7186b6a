"""Where a vision model knows absolute position, why, and what happens without it.

>>> import probe
>>> from probe.testing import noise_images, padded_net
>>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
>>> result.r2.sel(layer="conv4", stimulus="rolled", target="row").item() > 0.1
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.collected import Statistics as Statistics
    from probe.errors import ProbeError as ProbeError
    from probe.errors import ProbeWarning as ProbeWarning
    from probe.padding import PADDINGS as PADDINGS
    from probe.padding import with_padding as with_padding
    from probe.plots import plot_channels as plot_channels
    from probe.plots import plot_layers as plot_layers
    from probe.plots import plot_maps as plot_maps
    from probe.probing import channelwise as channelwise
    from probe.probing import collect as collect
    from probe.probing import layerwise as layerwise
    from probe.probing import list_layers as list_layers
    from probe.results import load as load
    from probe.results import save as save
    from probe.stimuli import STIMULI as STIMULI
    from probe.targets import TARGETS as TARGETS

_HOMES = {
    "PADDINGS": "padding",
    "STIMULI": "stimuli",
    "TARGETS": "targets",
    "ProbeError": "errors",
    "ProbeWarning": "errors",
    "Statistics": "collected",
    "channelwise": "probing",
    "collect": "probing",
    "layerwise": "probing",
    "list_layers": "probing",
    "load": "results",
    "plot_channels": "plots",
    "plot_layers": "plots",
    "plot_maps": "plots",
    "save": "results",
    "with_padding": "padding",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("position-probe")
    if name not in _HOMES:
        raise AttributeError(f"module 'probe' has no attribute {name!r}")
    return getattr(import_module(f"probe.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
