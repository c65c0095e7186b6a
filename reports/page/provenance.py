"""The section of every report that tells where its numbers come from."""

import json
from collections.abc import Iterable
from typing import Any

import xarray as xr

from probe.reports.page.document import Section

__all__ = ["add_provenance", "json_attribute"]

_FACTS = {
    "model": "Model",
    "weights": "Weights",
    "weights_digest": "Digest of the weights",
    "preprocessing": "Preprocessing",
    "n_images": "Images",
    "images_digest": "Digest of the images",
    "device": "Device",
    "created": "Measured (UTC)",
    "duration_s": "Duration (s)",
    "command": "Command",
}


_NOTHING = (None, "", 0)


def add_provenance(section: Section, result: xr.Dataset, facts: Iterable[tuple[str, str]] = ()) -> None:
    """Add what is known of model, images and versions, then `facts`, the warnings, the layers left out, the settings.

    Parameters
    ----------
    section
        Where to add it.
    result
        A result with its attributes.
    facts
        Pairs of a term and its meaning that only this kind of report has.
    """
    # A study that makes its own images counts none.
    found = [
        (label, str(result.attrs[name])) for name, label in _FACTS.items() if result.attrs.get(name) not in _NOTHING
    ]
    found += facts
    if versions := json_attribute(result, "versions"):
        found.append(("Versions", ", ".join(f"{package} {version}" for package, version in versions.items())))
    section.add_definitions(found)
    if warnings := json_attribute(result, "warnings"):
        section.add_paragraph("Warnings:")
        section.add_list(warnings)
    else:
        section.add_paragraph("There were no warnings.")
    if skipped := json_attribute(result, "skipped"):
        section.add_paragraph("Layers left out:")
        section.add_definitions([(name, str(reason)) for name, reason in skipped.items()])
    section.add_json("Settings", json_attribute(result, "settings"))


def json_attribute(result: xr.Dataset, name: str) -> Any:
    """Return an attribute that holds JSON; empty if it is not there."""
    return json.loads(result.attrs.get(name, "{}"))
