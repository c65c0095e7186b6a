"""The shape of the code: what imports what, what loads when, and what every public name must have."""

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import probe

ROOT = Path(__file__).parents[1]

# The library from the bottom up: a file imports only from files above it in this list.
LIBRARY = [
    "probe.errors",
    "probe.weight_files",
    "probe.layouts",
    "probe.rounding",
    "probe.expansions",
    "probe.layers",
    "probe.capture",
    "probe.rows",
    "probe.images",
    "probe.stimuli",
    "probe.canvases",
    "probe.targets",
    "probe.positions",
    "probe.isolation",
    "probe.products",
    "probe.statistics",
    "probe.expansion_gram",
    "probe.fitting",
    "probe.results",
    "probe.ablation",
    "probe.readout",
    "probe.options",
    "probe.running",
    "probe.collected",
    "probe.collecting",
    "probe.scoring",
    "probe.probing",
    "probe.performance",
    "probe.stacking",
    "probe.removals",
    "probe.later_readouts",
    "probe.scored_settings",
    "probe.curves",
    "probe.strengths",
    "probe.displacement",
    "probe.omission",
    "probe.attribution",
    "probe.statistical_strengths",
    "probe.ranking",
    "probe.agreement",
    "probe.discriminant",
    "probe.pooling",
    "probe.shifts",
    "probe.borders",
    "probe.alignment",
    "probe.windows",
    "probe.paths",
    "probe.receptive_fields",
    "probe.even_sizes",
    "probe.auditing",
    "probe.padding",
    "probe.plots",
    "probe.plots_ablation",
    "probe.plots_audit",
    "probe.testing",
    "probe",
]

# The command, which stands on the library, the analyses and the reports.
COMMAND = [
    "probe.model_sources",
    "probe.showing",
    "probe.commands",
    "probe.cli_reports",
    "probe.cli_studies",
    "probe.cli",
    "probe.__main__",
]

# Those of the command that may import analyses and reports.
ENDS = {"probe.cli_reports", "probe.cli_studies"}

# What analyses share. All others are studies of their own.
SHARED = {
    "analyses.antialiasing",
    "analyses.border_profiles",
    "analyses.border_readings",
    "analyses.canvas_tasks",
    "analyses.channel_examples",
    "analyses.corners",
    "analyses.data",
    "analyses.joining",
    "analyses.nets",
    "analyses.posenet_images",
    "analyses.posenet_numbers",
    "analyses.posenet_scores",
    "analyses.position_readouts",
    "analyses.pooled_nets",
    "analyses.similarity_cases",
    "analyses.studies",
    "analyses.training",
}

# All that a page may know of the library: nothing of torch, nothing of models.
KNOWN_TO_REPORTS = {"probe.errors", "probe.plots", "probe.plots_ablation", "probe.plots_audit", "probe.results"}

HEAVY = {"torch", "torchvision", "xarray", "matplotlib", "seaborn", "sklearn", "scipy", "pandas", "numpy"}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_name(path): path
    for package in ("probe", "analyses", "reports")
    for path in sorted((ROOT / package).rglob("*.py"))
}
BY_PACKAGE = {
    package: {name for name in FILES if name.partition(".")[0] == package}
    for package in ("probe", "analyses", "reports")
}


def tree_of(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported_by(name):
    """Return the files of the project that a file imports, wherever in it; imports for type checkers aside."""
    tree = tree_of(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            files = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= files or {node.module}
    return found & set(FILES)


def test_every_file_of_the_library_has_its_place():
    assert BY_PACKAGE["probe"] == {*LIBRARY, *COMMAND}


@pytest.mark.parametrize("name", [*LIBRARY, *COMMAND])
def test_imports_go_one_way(name):
    order = [*LIBRARY, *COMMAND]
    project = imported_by(name)
    assert [other for other in project & BY_PACKAGE["probe"] if order.index(other) >= order.index(name)] == []
    if name not in ENDS:
        assert project - BY_PACKAGE["probe"] == set(), "only the commands of studies and pages may import these"


@pytest.mark.parametrize("name", sorted(BY_PACKAGE["analyses"]))
def test_analyses_do_not_import_each_other_nor_reports_nor_the_command(name):
    assert imported_by(name) <= {*LIBRARY, *SHARED}


@pytest.mark.parametrize("name", sorted(BY_PACKAGE["reports"]))
def test_reports_know_results_and_figures_alone(name):
    assert imported_by(name) <= {*KNOWN_TO_REPORTS, *BY_PACKAGE["reports"]}


def test_only_capture_reads_through_hooks():
    registering = {
        name
        for name in FILES
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and "register" in node.attr and "forward" in node.attr
    }
    changes_outputs = {"probe.ablation", "probe.alignment", "probe.stacking"}
    assert registering - changes_outputs == {"probe.capture"}


def loaded_by(*statements):
    """Return the top-level modules that a fresh interpreter has after some statements."""
    code = "\n".join(
        [*statements, "import sys, json", "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_probe_loads_nothing_heavy():
    assert loaded_by("import probe, probe.errors", "dir(probe)") & HEAVY == set()


def test_results_figures_and_reports_do_without_torch():
    names = sorted({*KNOWN_TO_REPORTS, *BY_PACKAGE["reports"]})
    loaded = loaded_by(
        "import probe", "probe.load, probe.save, probe.plot_layers", *(f"import {name}" for name in names)
    )
    assert "xarray" in loaded
    assert loaded & {"torch", "torchvision"} == set()


@pytest.mark.parametrize("name", [*probe.__all__, "__version__"])
def test_every_public_name_resolves_and_is_listed(name):
    assert getattr(probe, name) is not None
    assert name in dir(probe)


def test_public_names_are_those_that_type_checkers_see():
    seen = {
        alias.asname
        for node in ast.walk(tree_of("probe"))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("probe.")
        for alias in node.names
    }
    assert seen == set(probe.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'layer_wise'"):
        probe.layer_wise  # noqa: B018


def public_objects():
    for name in LIBRARY:
        module = import_module(name)
        for attribute in module.__all__:
            thing = getattr(module, attribute)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield f"{name}.{attribute}", thing


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_class_and_method_has_a_docstring(name):
    thing = PUBLIC[name]
    methods = vars(thing).items() if inspect.isclass(thing) else ()
    assert inspect.getdoc(thing)
    assert [
        method
        for method, value in methods
        if not method.startswith("_") and inspect.isfunction(value) and not inspect.getdoc(value)
    ] == []


USERS_OWN = ("probe", "probe.results", "probe.testing")


@pytest.mark.parametrize(
    "name", [n for n in PUBLIC if inspect.isfunction(PUBLIC[n]) and n.rpartition(".")[0] in USERS_OWN]
)
def test_public_functions_take_at_most_three_positional_arguments(name):
    kinds = [parameter.kind for parameter in inspect.signature(PUBLIC[name]).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 3
    several = inspect.Parameter.VAR_POSITIONAL
    assert set(kinds) <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, several}


def test_measurements_have_the_same_arguments_by_the_same_names():
    by_name = {
        name: inspect.signature(getattr(probe, name)).parameters for name in ("collect", "layerwise", "channelwise")
    }
    for other in ("layerwise", "channelwise"):
        for argument in by_name["collect"].keys() & by_name[other].keys() - {"model", "images"}:
            assert by_name["collect"][argument] == by_name[other][argument], argument
    assert by_name["layerwise"].keys() - by_name["channelwise"].keys() == {"alpha", "positions"}
    assert by_name["collect"].keys() - by_name["layerwise"].keys() == {"first_image"}
