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
    from probe.ablation import ablate as ablate
    from probe.agreement import compare_rankings as compare_rankings
    from probe.auditing import audit as audit
    from probe.collected import Statistics as Statistics
    from probe.curves import ablation_curve as ablation_curve
    from probe.errors import ProbeError as ProbeError
    from probe.errors import ProbeWarning as ProbeWarning
    from probe.padding import PADDINGS as PADDINGS
    from probe.padding import with_padding as with_padding
    from probe.plots import plot_channels as plot_channels
    from probe.plots import plot_layers as plot_layers
    from probe.plots import plot_maps as plot_maps
    from probe.plots_ablation import plot_ablation as plot_ablation
    from probe.plots_audit import plot_audit as plot_audit
    from probe.plots_audit import plot_foveation as plot_foveation
    from probe.pooling import pooled as pooled
    from probe.probing import channelwise as channelwise
    from probe.probing import collect as collect
    from probe.probing import layerwise as layerwise
    from probe.probing import list_layers as list_layers
    from probe.ranking import rank_channels as rank_channels
    from probe.results import load as load
    from probe.results import save as save
    from probe.shifts import shift_similarity as shift_similarity
    from probe.stimuli import STIMULI as STIMULI
    from probe.targets import TARGETS as TARGETS

_HOMES = {
    "PADDINGS": "padding",
    "STIMULI": "stimuli",
    "TARGETS": "targets",
    "ProbeError": "errors",
    "ProbeWarning": "errors",
    "Statistics": "collected",
    "ablate": "ablation",
    "ablation_curve": "curves",
    "audit": "auditing",
    "channelwise": "probing",
    "collect": "probing",
    "compare_rankings": "agreement",
    "layerwise": "probing",
    "list_layers": "probing",
    "load": "results",
    "plot_ablation": "plots_ablation",
    "plot_audit": "plots_audit",
    "plot_channels": "plots",
    "plot_foveation": "plots_audit",
    "plot_layers": "plots",
    "plot_maps": "plots",
    "pooled": "pooling",
    "rank_channels": "ranking",
    "save": "results",
    "shift_similarity": "shifts",
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
