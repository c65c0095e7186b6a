"""The parts of an overview: what each measures, and what they share."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from probe.ablation.curves import ablation_curve
from probe.ablation.performance import Shown
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.overview.settings import Settings
from probe.analyses.predictions import Predictions, gives_embedding
from probe.erasing.curve import erasure_curve
from probe.erasing.rereading import erasure_matrix
from probe.erasing.stronger import READERS, stronger_readouts
from probe.errors import ArgumentError, ModelError, PaddingError
from probe.measures.bordering import border_profile
from probe.measures.consistency import shift_consistency
from probe.measures.matching import neighbours
from probe.measures.probing import channelwise, collect, layerwise, list_layers
from probe.models.layers import INPUT
from probe.ranking.agreement import compare_rankings
from probe.ranking.methods import rank_channels
from probe.reading.options import Options
from probe.sums.statistics import Statistics
from probe.variants.embeddings import with_position_embedding
from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling
from probe.windows.auditing import audit

__all__ = ["PARTS", "NotApplicableError", "Parts"]

PARTS = {
    "where": "where position is read, layer by layer",
    "untrained": "the same network before training",
    **{f"padding_{name}": f"under {name} padding" for name in ("reflect", "replicate", "circular", "valid")},
    "embedding_zero": "without the position embedding",
    "sampling_blur": "with blurred sampling",
    "audit": "padding that is never read",
    "border": "how far the border reaches",
    "channels": "single channels",
    "rankings": "rankings of channels",
    "ablation": "without single channels",
    "erasing": "without directions",
    "stronger": "what stronger readouts find",
    "rereading": "position read anew behind",
    "neighbours": "nearest neighbours",
    "consistency": "predictions under shifts",
}
"""Name of each part, and what it is, for the progress bar."""

_RANKINGS = ("omega2", "readout", "flip")
_SHARES = {
    "agreement_with_own": "share of predictions that are as before",
    "commonest_share": "share of the most frequent prediction",
    "constant_agreement": "share of predictions as before that one and the same answer would get",
    "accuracy": "share of right predictions",
}


class NotApplicableError(Exception):
    """The model has nothing that the part is about."""


class Parts:
    """Measures parts of an overview; what several need is measured once."""

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        untrained: nn.Module | None,
        layer: str | None,
        settings: Settings,
        reading: Mapping[str, Any],
    ) -> None:
        self._model, self._images, self._scored = model, images, images
        self.score: Any = "agreement"
        self.is_labelled = False
        self._untrained, self._settings, self._reading = untrained, settings, dict(reading)
        self._r2: xr.DataArray | None = None
        self._statistics: Statistics | None = None
        self._predictions: Predictions | None = None
        table = list_layers(model, images, device=reading["device"], transform=reading["transform"])
        self._layers = [str(name) for name in table.index[table.auto & (table.note == "")] if name != "input"]
        self.layer = layer or (self._layers[-1] if self._layers else "")
        sides: Any = table.loc["input", "shape"]
        self._size = tuple(int(side) for side in sides)

    def settle_score(self, labelled: Any, score: Any) -> None:
        """Settle what is scored on which images."""
        if labelled is None and score is None and isinstance(self._images, str | Path):
            labelled = ClassFolder(Path(self._images)) if self._own_predictions().labels is not None else None
        self.is_labelled = labelled is not None
        self._scored = labelled if self.is_labelled else self._images
        unlabelled = {"cosine": _Cosine()} if gives_embedding(self._model) else "agreement"
        self.score = score or ("accuracy" if self.is_labelled else unlabelled)

    def measure(self, part: str) -> xr.Dataset:
        """Measure a part."""
        if part == "where":
            layers = list(dict.fromkeys([INPUT, *self._layers, self.layer]))
            found = layerwise(self._model, self._images, layers=layers, maps=self.layer, **self._reading)
            self._r2 = found.r2
            return found
        if part == "untrained":
            return self._of_untrained()
        name, _, variant = part.partition("_")
        if name == "padding":
            if variant not in self._settings.paddings:
                raise NotApplicableError("left out with --quick.")
            return self._of_variant(partial(with_padding, padding=variant))
        if name == "embedding":
            return self._of_variant(partial(with_position_embedding, embedding=variant))
        if name == "sampling":
            return self._of_variant(partial(with_sampling, sampling=variant))
        measuring: dict[str, Callable[[], xr.Dataset]] = {
            "audit": lambda: audit(self._model, self._size),
            "border": self._border,
            "channels": lambda: channelwise(self._model, self._images, layers=self.layer, **self._reading),
            "rankings": self._rankings,
            "ablation": self._ablation,
            "erasing": self._erasing,
            "stronger": self._stronger,
            "rereading": self._rereading,
            "neighbours": lambda: neighbours(self._model, self._images, self.layer, **self._reading),
            "consistency": self._consistency,
        }
        return measuring[part]()

    def _of_untrained(self) -> xr.Dataset:
        if self._untrained is None:
            raise NotApplicableError("no untrained twin was given.")
        return layerwise(self._untrained, self._images, layers=self._layers, **self._reading)

    def _of_variant(self, change: Callable[[nn.Module], nn.Module]) -> xr.Dataset:
        try:
            variant = change(self._model)
        except (ModelError, PaddingError, ArgumentError) as error:
            raise NotApplicableError(str(error)) from error
        changed = layerwise(variant, self._images, layers=self._layers, **self._reading)
        if self._r2 is not None and _same(changed.r2, self._r2):
            raise NotApplicableError("the model has nothing that this changes: every number is as before.")
        # What the change does to the model's own predictions tells how far its numbers can be trusted.
        own = self._own_predictions()
        shares = own.compare(variant, self._images, self._options)
        if shares:
            shares["constant_agreement"] = own.chance["agreement_with_own"]
        for name, share in shares.items():
            changed[name] = ((), share, {"long_name": _SHARES[name], "units": "1"})
        return changed

    def _border(self) -> xr.Dataset:
        places = np.linspace(0, len(self._layers) - 1, min(self._settings.traced, len(self._layers))).round()
        chosen = [name for number, name in enumerate(self._layers) if number in places or name == self.layer]
        return border_profile(self._model, self._images, layers=chosen, stimuli="rolled", **self._reading)

    def _rankings(self) -> xr.Dataset:
        given = [
            rank_channels(self._model, self._images, self.layer, method=name, **self._reading) for name in _RANKINGS
        ]
        return compare_rankings(*given)

    def _ablation(self) -> xr.Dataset:
        ranking = rank_channels(self._model, self._images, self.layer, method="omega2", **self._reading)
        n_channels = ranking.sizes["channel"]
        counts = sorted({max(1, n_channels // share) for share in (32, 8, 4, 2)})
        return ablation_curve(
            self._model, self._scored, ranking, score=self.score, counts=counts, draws=max(self._settings.draws, 2),
            controls=["random"], **self._reading,
        )  # fmt: skip

    def _collected(self) -> Statistics:
        if self._statistics is None:
            self._statistics = collect(
                self._model, self._images, layers=self.layer, targets=("row", "column", "border"), **self._reading
            )
        return self._statistics

    def _ranks(self) -> list[int]:
        n_channels = self._collected().layers[0].n_channels
        return [rank for rank in self._settings.ranks if rank <= n_channels / 2]

    def _erasing(self) -> xr.Dataset:
        return erasure_curve(
            self._model, self._scored, self.layer, score=self.score, statistics=self._collected(), ranks=self._ranks(),
            draws=self._settings.draws, **self._reading,
        )  # fmt: skip

    def _stronger(self) -> xr.Dataset:
        ranks = [rank for rank in (2, 8) if rank in self._ranks()]
        readers = list(READERS)
        if self._collected().layers[0].n_channels > self._settings.widest:
            readers.remove("neighbourhood")
        return stronger_readouts(
            self._model, self._images, self.layer, ranks=ranks, readers=readers, samples=self._settings.samples,
            **self._reading,
        )  # fmt: skip

    def _rereading(self) -> xr.Dataset:
        layers = self._layers[-self._settings.erased :]
        return erasure_matrix(self._model, self._images, layers=layers, **self._reading)

    def _consistency(self) -> xr.Dataset:
        compare = "classes" if len(self._own_predictions().numbers) else "embedding"
        try:
            return shift_consistency(
                self._model,
                self._images,
                law="circular",
                compare=compare,
                diagonal=self._settings.diagonal,
                **self._reading,
            )
        except ArgumentError as error:  # of pixels, a network predicts no class and gives no vector of the image
            raise NotApplicableError(str(error)) from error

    @property
    def _options(self) -> Options:
        return Options(**self._reading)

    def _own_predictions(self) -> Predictions:
        if self._predictions is None:
            self._predictions = Predictions.of(self._model, self._images, self._options, None)
        return self._predictions


class _Cosine:
    """Mean cosine similarity of the embeddings of an image and of the same after a circular shift."""

    stimuli = ("natural", "rolled")
    needs_labels = False

    def amounts(self, shown: Shown) -> Tensor:
        natural, rolled = (shown.outputs[name].flatten(1).double() for name in self.stimuli)
        similarity = cosine_similarity(natural, rolled, dim=1)
        return torch.stack([similarity, torch.ones_like(similarity)], dim=1)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.asarray(sums[..., 0] / sums[..., 1])


def _same(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether both have the same layers, and the same numbers there."""
    known = [name for name in one.layer.values if name in other.layer.values]
    return len(known) == one.sizes["layer"] and bool(
        np.array_equal(one.values, other.sel(layer=known).values, equal_nan=True)
    )
