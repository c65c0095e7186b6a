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
    from probe.ablation.curves import ablation_curve as ablation_curve
    from probe.ablation.erasing import with_erasers as with_erasers
    from probe.ablation.hooks import ablate as ablate
    from probe.ablation.performance import SCORES as SCORES
    from probe.ablation.performance import MeanIoU as MeanIoU
    from probe.erasing.curve import erasure_curve as erasure_curve
    from probe.erasing.proof import erasure_proof as erasure_proof
    from probe.erasing.rereading import erasure_matrix as erasure_matrix
    from probe.erasing.stronger import stronger_readouts as stronger_readouts
    from probe.errors import ProbeError as ProbeError
    from probe.errors import ProbeWarning as ProbeWarning
    from probe.images.clips import Clips as Clips
    from probe.images.stimuli import STIMULI as STIMULI
    from probe.measures.bordering import border_profile as border_profile
    from probe.measures.consistency import shift_consistency as shift_consistency
    from probe.measures.matching import neighbours as neighbours
    from probe.measures.pooling import pooled as pooled
    from probe.measures.probing import channelwise as channelwise
    from probe.measures.probing import collect as collect
    from probe.measures.probing import layerwise as layerwise
    from probe.measures.probing import list_layers as list_layers
    from probe.measures.similarity import shift_similarity as shift_similarity
    from probe.plots.ablation import plot_ablation as plot_ablation
    from probe.plots.auditing import plot_audit as plot_audit
    from probe.plots.auditing import plot_foveation as plot_foveation
    from probe.plots.bordering import plot_border as plot_border
    from probe.plots.channels import plot_channels as plot_channels
    from probe.plots.comparison import plot_ranking as plot_ranking
    from probe.plots.consistency import plot_consistency as plot_consistency
    from probe.plots.erasing import plot_erasure as plot_erasure
    from probe.plots.maps import plot_maps as plot_maps
    from probe.plots.matching import plot_neighbours as plot_neighbours
    from probe.plots.pooling import plot_pooled as plot_pooled
    from probe.plots.position import plot_layers as plot_layers
    from probe.ranking.agreement import compare_rankings as compare_rankings
    from probe.ranking.methods import rank_channels as rank_channels
    from probe.readouts.erasers import Eraser as Eraser
    from probe.readouts.fitted_erasers import fit_eraser as fit_eraser
    from probe.readouts.targets import TARGETS as TARGETS
    from probe.results import load as load
    from probe.results import save as save
    from probe.sums.statistics import Statistics as Statistics
    from probe.variants.embeddings import POSITION_EMBEDDINGS as POSITION_EMBEDDINGS
    from probe.variants.embeddings import with_position_embedding as with_position_embedding
    from probe.variants.padding import PADDINGS as PADDINGS
    from probe.variants.padding import with_padding as with_padding
    from probe.variants.sampling import SAMPLINGS as SAMPLINGS
    from probe.variants.sampling import with_sampling as with_sampling
    from probe.windows.auditing import audit as audit

_HOMES = {
    "Clips": "images.clips",
    "Eraser": "readouts.erasers",
    "MeanIoU": "ablation.performance",
    "PADDINGS": "variants.padding",
    "POSITION_EMBEDDINGS": "variants.embeddings",
    "SAMPLINGS": "variants.sampling",
    "SCORES": "ablation.performance",
    "STIMULI": "images.stimuli",
    "TARGETS": "readouts.targets",
    "ProbeError": "errors",
    "ProbeWarning": "errors",
    "Statistics": "sums.statistics",
    "ablate": "ablation.hooks",
    "ablation_curve": "ablation.curves",
    "audit": "windows.auditing",
    "border_profile": "measures.bordering",
    "channelwise": "measures.probing",
    "collect": "measures.probing",
    "compare_rankings": "ranking.agreement",
    "erasure_curve": "erasing.curve",
    "erasure_matrix": "erasing.rereading",
    "erasure_proof": "erasing.proof",
    "fit_eraser": "readouts.fitted_erasers",
    "layerwise": "measures.probing",
    "list_layers": "measures.probing",
    "load": "results",
    "neighbours": "measures.matching",
    "plot_ablation": "plots.ablation",
    "plot_audit": "plots.auditing",
    "plot_border": "plots.bordering",
    "plot_channels": "plots.channels",
    "plot_consistency": "plots.consistency",
    "plot_erasure": "plots.erasing",
    "plot_foveation": "plots.auditing",
    "plot_layers": "plots.position",
    "plot_maps": "plots.maps",
    "plot_neighbours": "plots.matching",
    "plot_pooled": "plots.pooling",
    "plot_ranking": "plots.comparison",
    "pooled": "measures.pooling",
    "rank_channels": "ranking.methods",
    "save": "results",
    "shift_consistency": "measures.consistency",
    "shift_similarity": "measures.similarity",
    "stronger_readouts": "erasing.stronger",
    "with_erasers": "ablation.erasing",
    "with_padding": "variants.padding",
    "with_position_embedding": "variants.embeddings",
    "with_sampling": "variants.sampling",
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
