"""What the page of the study on patch matching says and shows. Never loads torch."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, joined, written

__all__ = ["add_figures", "findings"]

_S, _F = "S-Conv", "F-Conv"
_SHORT = ("F-Conv, averaged", "F-Conv, last window 14×14")
_LONG = "S-Conv, 7×7 outputs"
_PIXELS = "pixels"
_PROPORTION, _EQUAL = "in proportion", "equal"
_WITHIN = (0.0, 100.0)
_COLLAPSED = 0.1
_MARKERS = ("o", "s", "^", "v", "D")


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [
        *_gain(result),
        *_length(result),
        _steps(result),
        _baselines(result),
        _kinds(result),
        _scene(result),
        _cost(result),
        _collapsed(result),
    ]
    return [sentence for sentence in sentences if sentence]


def _measured(result: xr.Dataset) -> xr.Dataset:
    """Return the test that sums up the others, of the first size of batch."""
    known = result.here_by_seed.notnull()
    test, batch = (
        result[name].values[known.any([dim for dim in known.dims if dim != name]).values][0]
        for name in ("test", "batch")
    )
    return result.sel(test=test, batch=batch)


def _sizes(result: xr.Dataset) -> list[int]:
    known = result.here_by_seed.notnull()
    return [int(pairs) for pairs in result.pairs.values if pairs and bool(known.sel(pairs=pairs).any())]


def _has(result: xr.Dataset, *nets: str) -> bool:
    return set(nets) <= set(result.net.values.tolist())


def _share(result: xr.Dataset, net: str, pairs: int, steps: str = _PROPORTION) -> Estimate:
    return estimate(_measured(result).here_by_seed.sel(net=net, pairs=pairs, steps=steps).values, _WITHIN)


def _less(result: xr.Dataset, net: str, other: str, pairs: int, steps: str) -> Estimate:
    """Return net − other, over seeds."""
    shares = _measured(result).here_by_seed.sel(pairs=pairs, steps=steps)
    return estimate((shares.sel(net=net) - shares.sel(net=other)).values)


def _points(difference: Estimate) -> str:
    return difference.formatted(decimals=1, sign=True)


def _percent(share: Estimate) -> str:
    return f"{share.formatted(decimals=1)}\N{NO-BREAK SPACE}%"


def _gain(result: xr.Dataset) -> Iterator[str]:
    """Say with how many pairs F-Conv is better than S-Conv, as published and with equal steps."""
    if not _has(result, _S, _F):
        return
    for steps, words in (
        (_PROPORTION, "With steps in proportion to the pairs, as published"),
        (_EQUAL, "With as many steps for few pairs as for many"),
    ):
        found = {pairs: _less(result, _F, _S, pairs, steps) for pairs in _sizes(result)}
        found = {pairs: difference for pairs, difference in found.items() if difference.is_known}
        if not found:
            continue
        numbers = "; ".join(f"{pairs:,} pairs {_points(difference)}" for pairs, difference in found.items())
        yield (
            f"{words}, F-Conv − S-Conv is, in points of other pairs accepted at 95 % recall (lower is better): "
            f"{numbers}. {_verdict(found)}{_alone(result)}."
        )


def _verdict(found: dict[int, Estimate]) -> str:
    parts = []
    for word, chosen in (
        ("F-Conv is better with", [pairs for pairs, one in found.items() if one.differs and one.mean < 0]),
        ("S-Conv is better with", [pairs for pairs, one in found.items() if one.differs and one.mean > 0]),
        ("they cannot be told apart with", [pairs for pairs, one in found.items() if not one.differs]),
    ):
        if chosen:
            parts.append(f"{word} {joined(f'{pairs:,}' for pairs in chosen)} pairs")
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]}"


def _alone(result: xr.Dataset) -> str:
    return "" if result.sizes["seed"] > 1 else " (of one network each, without an error)"


def _length(result: xr.Dataset) -> Iterator[str]:
    """Say what is left of the gain where the descriptors are of one length, with the fewest and the most pairs."""
    if not _has(result, _S, _F):
        return
    sizes = _sizes(result)
    beside = [(net, _S) for net in _SHORT if _has(result, net)] + ([(_LONG, _F)] if _has(result, _LONG) else [])
    for pairs in sorted({sizes[0], sizes[-1]}):
        found = {names: _less(result, *names, pairs, _EQUAL) for names in beside}
        found = {names: difference for names, difference in found.items() if difference.is_known}
        if not found:
            continue
        numbers = "; ".join(
            f"{_length_of(result, other)} numbers, {net} − {other} {_points(difference)}"
            for (net, other), difference in found.items()
        )
        told = [
            f"{net} is {'better' if difference.mean < 0 else 'worse'} than {other}"
            for (net, other), difference in found.items()
            if difference.differs
        ]
        yield (
            f"Descriptors of the same length, {pairs:,} pairs, equal steps, in points: {numbers}. "
            f"{joined(told) if told else 'None of these can be told from 0'}{_alone(result)}."
        )


def _length_of(result: xr.Dataset, net: str) -> str:
    return f"{int(result.length.sel(trained_net=net)):,}" if net in result.trained_net else "as many"


def _steps(result: xr.Dataset) -> str:
    """Say what more steps do to few pairs."""
    sizes = _sizes(result)
    if len(sizes) < 2:
        return ""
    shares = _measured(result).here_by_seed.sel(pairs=sizes[0])
    found = {
        net: estimate((shares.sel(net=net, steps=_EQUAL) - shares.sel(net=net, steps=_PROPORTION)).values)
        for net in (_S, _F)
        if _has(result, net)
    }
    parts = [
        f"{net} by {_points(changed)}{'' if changed.differs else ' (within its error)'}"
        for net, changed in found.items()
        if changed.is_known
    ]
    if not parts:
        return ""
    costs = {net: _costs(result, net, sizes) for net in found}
    better = [
        net
        for net, changed in found.items()
        if changed.differs and changed.mean < 0 and costs[net].differs and costs[net].mean > 0
    ]
    told = f" Part of what few pairs cost {joined(better)} is a matter of few steps." if better else ""
    return (
        f"{sizes[0]:,} pairs with as many steps as {sizes[-1]:,} change the share, in points: {' and '.join(parts)}."
        f"{told}{_alone(result)}"
    )


def _costs(result: xr.Dataset, net: str, sizes: list[int]) -> Estimate:
    """Return by how much the share with the fewest pairs is above that with the most, over seeds."""
    shares = _measured(result).here_by_seed.sel(net=net, steps=_PROPORTION)
    return estimate((shares.sel(pairs=sizes[0]) - shares.sel(pairs=sizes[-1])).values)


def _baselines(result: xr.Dataset) -> str:
    """Say which trained networks are better than the pixels, and what training made of them."""
    sizes = _sizes(result)
    pixels = _share(result, _PIXELS, 0)
    if not pixels.is_known:
        return ""
    parts = []
    for net in [str(net) for net in result.net.values if net != _PIXELS]:
        before, after = _share(result, net, 0), _share(result, net, sizes[-1])
        if not (before.is_known and after.is_known):
            continue
        shares = _measured(result).here_by_seed
        beside = estimate(shares.sel(net=net, pairs=sizes[-1], steps=_PROPORTION).values - pixels.mean)
        told = "as good as pixels within its error"
        if beside.differs:
            told = "better than pixels" if beside.mean < 0 else "worse than pixels"
        parts.append(f"{net} {_percent(after)}, untrained {_percent(before)} ({told})")
    if not parts:
        return ""
    return (
        f"Pixels accept {written(pixels.mean, 1)} % of other pairs; with {sizes[-1]:,} pairs, {'; '.join(parts)}"
        f"{_alone(result)}."
    )


def _kinds(result: xr.Dataset) -> str:
    """Say which pairs are harder to tell from matching ones."""
    same, other = "same photograph", "other photographs"
    if not {same, other} <= set(result.test.values.tolist()):
        return ""
    sizes = _sizes(result)
    shares = result.here_by_seed.sel(batch=_measured(result).batch.item(), pairs=sizes[-1], steps=_PROPORTION)
    parts = []
    for net in (_S, _F):
        if _has(result, net):
            difference = estimate((shares.sel(net=net, test=same) - shares.sel(net=net, test=other)).values)
            if difference.is_known:
                parts.append(f"{net} {_points(difference)}{'' if difference.differs else ' (within its error)'}")
    if not parts:
        return ""
    return (
        f"Pairs of one photograph − pairs of two, accepted with {sizes[-1]:,} training pairs, in points: "
        f"{'; '.join(parts)}{_alone(result)}."
    )


def _scene(result: xr.Dataset) -> str:
    """Say how many points find each other in the two photographs."""
    if "found" not in result:
        return ""
    sizes = _sizes(result)
    parts = []
    for net in [str(net) for net in result.net.values]:
        trained, untrained = (_found(result, net, pairs) for pairs in (sizes[-1], 0))
        if net == _PIXELS and untrained.is_known:
            parts.append(f"pixels {written(untrained.mean, 1)}\N{NO-BREAK SPACE}%")
        elif trained.is_known and untrained.is_known:
            parts.append(f"{net} {_percent(trained)} (untrained {_percent(untrained)})")
    if not parts:
        return ""
    chance = f" (chance {float(result.found_chance):.1f} %)" if np.isfinite(result.found_chance) else ""
    return (
        f"In the two real photographs, of the {int(result.found_of)} corners whose like is a corner of the second one, "
        f"so many find it within 3 pixels{chance}, networks with {sizes[-1]:,} pairs: {'; '.join(parts)}."
    )


def _found(result: xr.Dataset, net: str, pairs: int) -> Estimate:
    return estimate(_measured(result).found.sel(net=net, pairs=pairs, steps=_PROPORTION).values, _WITHIN)


def _cost(result: xr.Dataset) -> str:
    if not _has(result, _S, _F):
        return ""
    length, products = (
        result[name].sel(trained_net=_F) / result[name].sel(trained_net=_S) for name in ("length", "products")
    )
    return (
        f"F-Conv has the parameters of S-Conv, {float(length):.0f} times the numbers in its descriptor, and takes "
        f"{float(products):.1f} times the products for a patch."
    )


def _collapsed(result: xr.Dataset) -> str:
    """Name trained networks whose descriptors are nearly alike, which the loss cannot tell from perfect ones."""
    spread = result.spread.sel(pairs=_sizes(result)).min("seed").stack(case=("net", "pairs", "steps", "batch"))
    nets = sorted({str(case.net.item()) for case in spread[(spread < _COLLAPSED).values]})
    if not nets:
        return ""
    return (
        f"Some trained networks give all patches nearly the same descriptor ({'; '.join(nets)}): of these the loss "
        "cannot tell that they learned nothing."
    )


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the shares by number of pairs, and the points found in two photographs."""
    table = _measured(result).here.to_series().dropna().rename("other pairs accepted (%)").reset_index()
    section = report.add_section("Few pairs and many")
    section.add_figure(
        _draw_shares(result),
        caption="Other pairs that are accepted where 95 % of the matching ones are, by the number of training pairs; "
        "mean and 95 % interval over seeds (of two seeds, both values). Left of the lines: the untrained networks. "
        "Dashed: the pixels themselves. Right: as published, on the patches of Brown et al.",
        alt=" ".join(_gain(result)) or "Lines by number of pairs.",
        table=table,
    )
    if "found" in result:
        report.add_section("Two real photographs").add_figure(
            _draw_found(result),
            caption="Corners of the first photograph, of those whose like is a corner of the second one, that find it "
            "within 3 pixels: networks trained on the most pairs (filled) and untrained (open), a point for each; "
            "bars: their means. Dotted: chance.",
            alt=_scene(result),
        )


def _draw_shares(result: xr.Dataset) -> Figure:
    sizes = _sizes(result)
    nets = [str(net) for net in result.net.values if net != _PIXELS]
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
    for ax, steps in zip(panels, (_PROPORTION, _EQUAL), strict=False):
        for place, net in enumerate(nets):
            shares = [_share(result, net, pairs, steps) for pairs in sizes]
            ax.errorbar(
                sizes, [share.mean for share in shares], bars(shares, _WITHIN), color=COLOURS[place], linewidth=1.2,
                marker=_MARKERS[place], markersize=4, capsize=2, elinewidth=0.8, label=net,
            )  # fmt: skip
            untrained = _share(result, net, 0)
            ax.plot(
                sizes[0] / 2, untrained.mean, _MARKERS[place], color=COLOURS[place], markersize=5,
                markerfacecolor="none",
            )  # fmt: skip
        ax.axhline(_share(result, _PIXELS, 0).mean, color="0.4", linestyle="--", linewidth=1)
        _finish(ax, sizes, f"steps {steps}")
    panels[1].sharey(panels[0])
    known = result.published.sel(steps=_PROPORTION).max(["test", "batch"])
    for place, net in enumerate(nets):
        line = known.sel(net=net).dropna("pairs")
        if line.size:
            panels[2].plot(line.pairs, line, marker=_MARKERS[place], color=COLOURS[place], markersize=4, linewidth=1.2)
    published = known.dropna("pairs", how="all").pairs.values.tolist()
    _finish(panels[2], published, "as published")
    panels[0].set_ylabel("other pairs accepted (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=5, frameon=False, fontsize=8)
    return figure


def _finish(ax: Axes, sizes: list[int], title: str) -> None:
    ax.set(xscale="log", xlabel="training pairs", title=title)
    ax.set_ylim(bottom=0)
    ax.set_xticks(sizes, [f"{pairs:,}" for pairs in sizes], rotation=40, fontsize="small")
    ax.minorticks_off()
    sns.despine(ax=ax)


def _draw_found(result: xr.Dataset) -> Figure:
    nets = [str(net) for net in result.net.values]
    most = _sizes(result)[-1]
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(nets)), layout="constrained")
    ax = figure.subplots()
    for place, net in enumerate(nets):
        colour = "0.4" if net == _PIXELS else COLOURS[place - 1]
        for pairs, face, lift in ((most, colour, -0.14), (0, "none", 0.14)):
            found = _measured(result).found.sel(net=net, pairs=pairs, steps=_PROPORTION).values
            ax.barh(place + lift, np.nan_to_num(_found(result, net, pairs).mean), 0.24, color=colour, alpha=0.25)
            ax.plot(found, np.full(len(found), place + lift), "o", color=colour, markerfacecolor=face, markersize=5)
    ax.axvline(float(result.found_chance), color="0.4", linestyle=":")
    ax.set_yticks(range(len(nets)), nets, fontsize="small")
    ax.invert_yaxis()
    ax.set_xlabel("corners that find their like (%)")
    sns.despine(ax=ax)
    return figure
