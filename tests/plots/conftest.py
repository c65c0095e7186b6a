"""Results of known numbers, and what is asked of every figure."""

from itertools import pairwise, zip_longest

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

STIMULI = ["natural", "rolled"]
TARGETS = ["row", "column"]
FOLDS = 5
WIDTHS = (3.4, 7.0)


def resnet50_layers():
    """Names as of the convolutions of a ResNet-50."""
    blocks = [(stage, block) for stage, n in enumerate((3, 4, 6, 3), 1) for block in range(n)]
    names = [
        f"layer{stage}.{block}.{part}"
        for stage, block in blocks
        for part in ("conv1", "conv2", "conv3", *(["downsample.0"] if block == 0 else []))
    ]
    return ["input", "conv1", *names]


def vit_layers():
    return ["input", "conv_proj", *(f"encoder.layers.encoder_layer_{number}" for number in range(12))]


def layer_result(names, *, seed=0, **attrs):
    rng = np.random.default_rng(seed)
    shape = (len(names), len(STIMULI), len(TARGETS))
    dims = ("layer", "stimulus", "target")
    return xr.Dataset(
        {"r2": (dims, rng.uniform(-0.1, 0.8, shape)), "r2_se": (dims, rng.uniform(0.01, 0.05, shape))},
        coords={"layer": names, "stimulus": STIMULI, "target": TARGETS, "fold": np.arange(FOLDS)},
        attrs=attrs,
    )


def channel_result(widths, *, scale=1.0):
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {"omega2": (("channel", "stimulus"), scale * rng.uniform(0, 1, (sum(widths.values()), len(STIMULI))))},
        coords={
            "layer": ("channel", [name for name, width in widths.items() for _ in range(width)]),
            "stimulus": STIMULI,
        },
    )


def lines_of(ax):
    """The lines with a label, by it."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def legend_of(figure):
    """All that the legends of a figure say."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in (legend.get_title(), *legend.get_texts())]


def assert_readable(figure):
    """No text below 6 points, none beyond the figure, no names of layers over one another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    seen = [text for text in set(figure.findobj(Text)) - _hidden(figure) if text.get_visible() and text.get_text()]
    assert seen
    for text in seen:
        assert text.get_fontsize() >= 6, text
        box = text.get_window_extent(renderer)
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1
        assert inside, (text, box, figure.bbox)
    for ax in figure.axes:
        labels = [label for label in ax.get_xticklabels() if label in seen]
        for left, right in pairwise(labels):
            ends = ax.transData.transform([(label.get_position()[0], 0) for label in (left, right)])
            if angle := np.deg2rad(left.get_rotation()):
                height = left.get_fontsize() * figure.dpi / 72
                assert (ends[1, 0] - ends[0, 0]) * np.sin(angle) >= height, (left, right)
            else:
                assert not left.get_window_extent(renderer).overlaps(right.get_window_extent(renderer)), (left, right)
        if ax.get_ylabel():
            assert ax.yaxis.label.get_window_extent(renderer).height <= 1.25 * ax.bbox.height, ax.get_ylabel()


def _hidden(figure):
    """What stands at ticks beyond the limits, or in axes that are off, is not drawn."""
    hidden = set()
    for ax in figure.axes:
        if not ax.axison:
            hidden |= set(ax.findobj(Text))
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for ticks, locations in (
                (axis.majorTicks, axis.get_majorticklocs()),
                (axis.minorTicks, axis.get_minorticklocs()),
            ):
                for tick, location in zip_longest(ticks, locations, fillvalue=np.nan):
                    if not low <= location <= high and tick is not np.nan:
                        hidden |= {tick.label1, tick.label2}
    return hidden


@pytest.fixture(autouse=True)
def settings_stay():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


@pytest.fixture(autouse=True)
def never_shown(monkeypatch):
    def show(*_, **__):
        raise AssertionError("a plot called plt.show")

    monkeypatch.setattr(plt, "show", show)


@pytest.fixture(params=WIDTHS)
def width(request):
    """Inches of one and of two columns."""
    return request.param


@pytest.fixture(params=[resnet50_layers, vit_layers], ids=["resnet50", "vit_b_16"])
def names(request):
    """Layers of a deep network."""
    return request.param()


@pytest.fixture(name="layer_result", scope="session")
def _layer_result():
    return layer_result


@pytest.fixture(name="channel_result", scope="session")
def _channel_result():
    return channel_result


@pytest.fixture(name="lines_of", scope="session")
def _lines_of():
    return lines_of


@pytest.fixture(name="legend_of", scope="session")
def _legend_of():
    return legend_of


@pytest.fixture(name="assert_readable", scope="session")
def _assert_readable():
    return assert_readable
