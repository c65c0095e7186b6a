"""How the reference is grouped: every public name stands in one group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True)
class Group:
    """Names of one module on one page.

    Attributes
    ----------
    page, title, story
        File, heading, and what the names have in common, in a sentence or two of Markdown.
    names
        In the order in which they are listed.
    module
        Where they are imported from.
    told
        Of names that are no function or class: what they are.
    """

    page: str
    title: str
    story: str
    names: Sequence[str]
    module: str = "probe"
    told: Mapping[str, str] = field(default_factory=dict)


GROUPS = [
    Group(
        "where",
        "Where: measuring position",
        "All take a model and images, and return a labelled result. `collect` keeps the sums behind the first two.",
        [
            "list_layers", "layerwise", "channelwise", "collect", "Statistics", "pooled", "border_profile",
            "neighbours", "shift_consistency", "shift_similarity", "audit",
        ],
    ),
    Group(
        "why",
        "Why: the same weights with one thing changed",
        "Each returns a copy; measure it beside the original, on rolled images.",
        ["with_padding", "with_sampling", "with_position_embedding"],
    ),
    Group(
        "channels",
        "Which channels, and what happens without them",
        "Rank on one set of images, ablate on another.",
        ["rank_channels", "compare_rankings", "ablate", "ablation_curve", "MeanIoU"],
    ),
    Group(
        "erasing",
        "Directions: erasing position",
        "Position lies in directions of the features. An eraser takes out what a linear readout of single cells finds.",
        [
            "fit_eraser", "Eraser", "with_erasers", "erasure_proof", "erasure_curve", "stronger_readouts",
            "erasure_matrix",
        ],
    ),
    Group(
        "results",
        "Results and figures",
        "Results are `xarray.Dataset`s. Each figure takes axes of yours, or makes a figure of its own.",
        [
            "save", "load", "plot_layers", "plot_channels", "plot_maps", "plot_ranking", "plot_pooled",
            "plot_ablation", "plot_erasure", "plot_consistency", "plot_neighbours", "plot_border", "plot_audit",
            "plot_foveation",
        ],
    ),
    Group(
        "reading",
        "Reading results",
        "What `xarray` alone does not give.",
        ["layer_map", "published_table"],
        module="probe.results",
    ),
    Group(
        "names",
        "Images and names",
        "What measurements are shown, and the names that their arguments take.",
        ["Clips", "STIMULI", "TARGETS", "PADDINGS", "SAMPLINGS", "POSITION_EMBEDDINGS", "SCORES"],
        told={
            "STIMULI": "How images are shown: as they are, rolled circularly by a random offset, as noise of the same "
            "mean and variance of each channel, or as a constant.",
            "TARGETS": "Maps that readouts predict, each a function (rows, columns) -> map, of clips (frames, rows, "
            "columns) -> map.",
            "PADDINGS": "What `with_padding` takes.",
            "SAMPLINGS": "What `with_sampling` takes.",
            "POSITION_EMBEDDINGS": "What `with_position_embedding` takes.",
            "SCORES": "Scores of `ablation_curve` and `erasure_curve` by their names; `position` is one more, of "
            "`ablation_curve` alone.",
        },
    ),
    Group(
        "errors",
        "Errors",
        "All errors that probe raises itself are a `ProbeError`, and also one of Python's own kinds. What they mean "
        "and what helps is told in [Errors](../errors/index.md).",
        [
            "ProbeError", "ProbeWarning", "ArgumentError", "IllConditionedError", "ImagesError", "LayerNotCalledError",
            "LayerNotFoundError", "LayoutError", "ModelError", "PaddingError", "RankError", "ResultFileError",
            "TooLargeError",
        ],
        module="probe.errors",
    ),
    Group(
        "testing",
        "Nets with known answers",
        "Tiny networks of which it is known where they know position, and images that know nothing of it.",
        ["noise_images", "padded_net", "pointwise_net", "CoordinateNet"],
        module="probe.testing",
    ),
    Group(
        "nets",
        "Networks to train",
        "What the studies train, for your own training loop.",
        [
            "residual_net", "ResidualNet", "cifar_resnet", "CifarResNet", "small_net", "small_segmenter", "AugShift",
            "AugShiftLoss", "matched_width", "multiply_adds", "seeded", "BORDERS", "DEPTHS",
        ],
        module="probe.analyses.nets",
        told={
            "BORDERS": "Zeros around each map: half a kernel (S-Conv), or a kernel less one pixel (F-Conv).",
            "DEPTHS": "What `residual_net` takes.",
        },
    ),
    Group(
        "training",
        "Training",
        "The loop of the studies, for networks of yours.",
        ["train", "Recipe"],
        module="probe.analyses.training",
    ),
]  # fmt: skip
