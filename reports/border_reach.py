"""What the page on the reach of the border says and shows. Never loads torch."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.axes import name_layers
from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate

__all__ = ["add_figures", "findings"]

_COLOURS = COLOURS
_MOST_PROFILES = 6
_FAINTEST = 1e-9  # of the signal's variance, below the rounding of single precision


def findings(result: xr.Dataset) -> list[str]:
    """Say how far the border reaches in the last layer, how much it is, and how this compares with theory."""
    formatted = [
        _framing(result),
        _share(result),
        _deepest(result),
        _theory(result),
        *_effective(result),
        *_limits(result),
    ]
    return [sentence for sentence in formatted if sentence]


def _framing(result: xr.Dataset) -> str:
    about, seeds = result.attrs, result.sizes["seed"]
    if about["has_own_networks"]:
        shown = f"{seeds} untrained networks, {about['n_images']} images"
    else:
        shown = f"one network, {about['n_images']} images in {seeds} {'groups' if seeds > 1 else 'group'}, the seeds"
    return (
        f"{about['model']}: {shown}; crops of {about['crop']} pixels under the network's own padding and in their "
        f"{about['context']} context, {about['margin']} pixels on each side."
    )


def _share(result: xr.Dataset) -> str:
    reached = result.share.mean("seed").dropna("layer")
    if not reached.size:
        return "No layer has a signal that varies, so nothing can be said of the border's share."
    if not (reached > _FAINTEST).any():
        return "In no layer does the border make a difference: features are those inside the larger image."
    first, last = _first_reached(result), str(result.layer.values[-1])
    sentence = (
        f"Over the whole crop the mean square of what the border changes is {_share_of(result, last)} of the signal's "
        f"variance in {last}"
    )
    return f"{sentence}, the last layer; the first that it reaches is {first} ({_share_of(result, first)})."


def _first_reached(result: xr.Dataset) -> str:
    reached = result.share.mean("seed") > _FAINTEST
    return str(result.layer.values[reached.values.argmax()])


def _share_of(result: xr.Dataset, layer: str) -> str:
    share = result.share.sel(layer=layer)
    over_seeds = estimate(100 * share.values)
    if np.isnan(over_seeds.half_width):
        error = 100 * float(result.share_se.sel(layer=layer).mean())
        return f"{Estimate(over_seeds.mean, error, 1).formatted(decimals=2)} % (± standard error over images)"
    # The share is that of a mean square difference: it can exceed 100 %, but is not below 0.
    return f"{over_seeds.formatted(decimals=1, within=(0, np.inf))} %"


def _deepest(result: xr.Dataset) -> str:
    last, by_seed = result.here.isel(layer=-1), result.here_by_seed.isel(layer=-1)
    if last.isnull().any():
        return f"How far the border reaches into {last.layer.item()} is not known: its signal is not finite."
    reaches = {
        threshold: "the middle of the crop"
        if float(last.sel(threshold=threshold)) >= _half_crop(result)[-1]
        else f"{estimate(by_seed.sel(threshold=threshold).values).formatted(decimals=1, within=(0, np.inf))} pixels"
        for threshold in ("1 %", "detectable")
    }
    return (
        f"In {last.layer.item()} the border's trace exceeds 1 % of the signal up to {reaches['1 %']}, and can be "
        f"detected up to {reaches['detectable']}, on the side where it goes farthest."
    )


def _half_crop(result: xr.Dataset) -> np.ndarray:
    """Return the farthest reach in each layer, in pixels, that the map of a crop can show."""
    return ((result["size"].min("axis") + 1) // 2 * result["stride"].min("axis")).values


def _theory(result: xr.Dataset) -> str:
    allowed = result.theoretical_reach.max("side")
    if allowed.isnull().all():
        return "The paths of this network cannot be counted, so there is no theory to compare with."
    detectable = result.here_by_seed.sel(threshold="detectable").max("seed")
    if detectable.isnull().all():
        return ""
    known = (allowed.notnull() & detectable.notnull()).values
    beyond = [str(name) for name in result.layer.values[known & (detectable > allowed).values]]
    if beyond:
        return (
            f"Beyond what paths through windows allow, the border is detected in {', '.join(beyond[:5])}: these "
            "layers also read the whole map, or their cells do not correspond."
        )
    sentence = "Nowhere does the border reach farther than paths through windows allow"
    inside = known & (allowed.values < _half_crop(result))
    if not inside.any():
        return f"{sentence}."
    equal = int((inside & (detectable == allowed).values).sum())
    return (
        f"{sentence}; of the {int(inside.sum())} layers where these end before the middle of the crop, {equal} show it "
        "as far as they allow."
    )


def _effective(result: xr.Dataset) -> list[str]:
    last = result.isel(layer=-1)
    field = last.effective_field.values
    if not np.isfinite(field).all():
        return []
    theoretical = float(last.receptive_field.max())
    whole = f"{theoretical:.0f}" if np.isfinite(theoretical) else "more than the larger image"
    sentences = [
        f"The effective receptive field of {last.layer.item()} is "
        f"{estimate(field).formatted(decimals=1, within=(0, np.inf))} pixels wide; in theory, {whole}."
    ]
    reached = result.here.sel(threshold="1 %").values
    inside = (reached > 0) & (reached < _half_crop(result))
    if inside.any():
        ratio = reached[inside] / (result.effective_field.mean("seed").values[inside] / 2)
        sentences.append(
            f"In the {int(inside.sum())} layers where the trace falls below 1 % of the signal within the crop, it does "
            f"so at {np.median(ratio):.2g} times half the effective receptive field (median; {ratio.min():.2g} to "
            f"{ratio.max():.2g})."
        )
    return sentences


def _limits(result: xr.Dataset) -> list[str]:
    met = [str(name) for name in result.layer.values[result.outer_border.values > 0]]
    if not met or result.attrs["context"] == "circular":
        return []
    return [
        f"In {len(met)} of {result.sizes['layer']} layers, from {met[0]} on, the border of the larger image can reach "
        "the crop too, so there the share is that of a border against one farther away."
    ]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the figures of the reach, the share and the profiles."""
    section = report.add_section("Reach by layer")
    last = result.here.isel(layer=-1)
    section.add_figure(
        _draw_reach(result),
        caption="How far the border reaches into each layer, in pixels of the image, with the 95 % interval over seeds "
        "(of two, both values) as a band; how far it could reach; and half of the effective receptive field. Grey: "
        "beyond the middle of the crop, where nothing can be seen.",
        alt=f"In {last.layer.item()} the border exceeds 1 % of the signal up to {float(last.sel(threshold='1 %')):.3g} "
        f"pixels, and is detectable up to {float(last.sel(threshold='detectable')):.3g} pixels.",
        table=result.here.to_pandas().reset_index(),
    )
    section = report.add_section("Share of the signal")
    section.add_figure(
        _draw_share(result),
        caption="Mean square difference over the whole crop, divided by the variance of the features, with the 95 % "
        "interval over seeds (of two, both values).",
        alt="; ".join(f"{name}: {float(result.share.sel(layer=name).mean()):.3g}" for name in result.layer.values),
        table=result.share.mean("seed").to_dataframe()[["share"]].reset_index(),
    )
    section = report.add_section("By distance to the border")
    section.add_figure(
        _draw_profiles(result),
        caption="The difference by distance to the border, mean over sides and seeds, in the middle third of each "
        "side; at the lower edge where there is none. Dotted: 1 % of the signal.",
        alt="; ".join(_profile_in_words(result, layer) for layer in _shown(result)),
    )


def _draw_reach(result: xr.Dataset) -> Figure:
    figure, ax = _panel(result)
    depth = np.arange(result.sizes["layer"])
    half_crop = _half_crop(result)
    ax.fill_between(depth, half_crop, max(half_crop) * 1.05, color="0.93", linewidth=0, zorder=0)
    for colour, (threshold, label) in zip(
        _COLOURS, {"detectable": "detectable", "1 %": "1 % of the signal"}.items(), strict=False
    ):
        _draw_band(ax, result.here_by_seed.sel(threshold=threshold).transpose("layer", "seed").values, colour, label)
    ax.plot(depth, result.theoretical_reach.max("side"), ":", color="black", label="could reach, in theory")
    ax.plot(
        depth,
        result.effective_field.mean("seed") / 2,
        "--",
        color=_COLOURS[2],
        label="half the effective receptive field",
    )
    ax.set(ylabel="pixels from the border")
    ax.set_ylim(0)
    ax.legend(frameon=False, fontsize="small")
    return figure


def _draw_share(result: xr.Dataset) -> Figure:
    figure, ax = _panel(result)
    _draw_band(ax, result.share.transpose("layer", "seed").values, _COLOURS[0], "share")
    ax.set(ylabel="difference ÷ variance of the signal")
    ax.set_ylim(0)
    return figure


def _panel(result: xr.Dataset) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    ax = figure.subplots()
    name_layers(ax, [str(name) for name in result.layer.values])
    sns.despine(ax=ax)
    return figure, ax


def _draw_band(ax: Axes, values: np.ndarray, colour: str, label: str) -> None:
    """Draw the mean over seeds of values, shape (layer, seed), with its interval."""
    depth, means = np.arange(len(values)), values.mean(axis=1)
    below, above = bars([estimate(row) for row in values], (0, np.inf))
    ax.plot(depth, means, color=colour, marker=".", label=label)
    ax.fill_between(depth, means - below, means + above, color=colour, alpha=0.22, linewidth=0)


def _shown(result: xr.Dataset) -> list[str]:
    """Return layers evenly spaced over the depth, the first and last among them."""
    places = np.linspace(0, result.sizes["layer"] - 1, min(_MOST_PROFILES, result.sizes["layer"]))
    return [str(result.layer.values[int(place)]) for place in dict.fromkeys(places.round())]


def _profile(result: xr.Dataset, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return distances of the middles of cells, in pixels, and the difference there."""
    profile = result.difference.sel(layer=layer).mean(["seed", "side"]).values
    profile = profile[np.isfinite(profile)]
    return (np.arange(len(profile)) + 0.5) * float(result["stride"].sel(layer=layer).mean()), profile


def _profile_in_words(result: xr.Dataset, layer: str) -> str:
    _, profile = _profile(result, layer)
    return (
        f"{layer}: {profile[0]:.2g} at the border, {profile[-1]:.2g} in the middle"
        if len(profile)
        else f"{layer}: none"
    )


def _draw_profiles(result: xr.Dataset) -> Figure:
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    ax = figure.subplots()
    shown = _shown(result)
    for colour, layer in zip(sns.color_palette("viridis", len(shown)), shown, strict=True):
        distance, profile = _profile(result, layer)
        ax.plot(distance, np.maximum(profile, _FAINTEST), marker=".", color=colour, label=layer)
    ax.axhline(0.01, color="0.6", linestyle=":", linewidth=1, zorder=0)
    ax.set(yscale="log", xlabel="distance to the border (pixels)", ylabel="difference ÷ variance of the signal")
    legend = ax.legend(frameon=False, fontsize="small", bbox_to_anchor=(1, 1), loc="upper left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    sns.despine(ax=ax)
    return figure
