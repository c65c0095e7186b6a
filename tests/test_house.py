"""The shape of the code: what imports what, what loads when, and what every public name must have."""

import ast
import inspect
import json
import subprocess
import sys
import textwrap
import tomllib
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import probe

ROOT = Path(__file__).parents[1]

# The wings and single files of the library from the ground up; a file imports from lower floors and its own wing.
FLOORS = [
    {"axes", "errors", "intervals", "testing"},
    {"checks"},
    {"images", "models", "results"},
    {"bundles", "plots", "sums", "windows"},
    {"readouts", "variants"},
    {"reading"},
    {"ablation", "measures", "ranking"},
    {"erasing"},
    {""},
    {"command"},
    {"__main__"},
]

# Those of the command that may import analyses and reports.
ENDS = {"probe.command.overviews", "probe.command.reports", "probe.command.studies", "probe.command.tables"}

# What studies share. All others are studies of their own, each a file or a folder.
SHARED = {"data", "nets", "predictions", "studies", "training"}

# Folders whose `__init__` is a front, from which all that is public in them is imported.
FRONTS = {"probe", "probe.analyses.nets", "probe.reports", "probe.results"}

# Of the library what pages may import; none of it loads torch.
BELOW_PAGES = {"axes", "bundles", "checks", "errors", "intervals", "results", "plots"}

# What pages share.
PAGES = {"", "page", "results", "studies"}

HEAVY = {"torch", "torchvision", "xarray", "matplotlib", "seaborn", "sklearn", "scipy", "pandas", "numpy"}


def module_name(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.partition(".")[0] == "probe" else f"probe.{name}"


FILES = {
    module_name(path): path
    for package in ("probe", "analyses", "reports")
    for path in sorted((ROOT / package).rglob("*.py"))
}
ANALYSES, REPORTS = (
    {name for name in FILES if f"{name}.".startswith(f"probe.{package}.")} for package in ("analyses", "reports")
)
LIBRARY = sorted(set(FILES) - ANALYSES - REPORTS)


def wing_of(name):
    return name.removeprefix("probe").removeprefix(".").partition(".")[0]


def part_of(name):
    """The file or folder of a study or page that a file belongs to."""
    return [*name.split("."), ""][2]


FLOOR_OF = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}


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


def test_every_file_has_its_floor():
    assert {wing_of(name) for name in LIBRARY} == set(FLOOR_OF)


@pytest.mark.parametrize("name", LIBRARY)
def test_imports_go_down(name):
    """Analyses and reports are seen by the commands of studies and pages alone; only __main__ enters the command."""
    wing = wing_of(name)
    project = imported_by(name)
    if name in ENDS:
        project -= ANALYSES | REPORTS
    too_high = {
        other for other in project if wing_of(other) != wing and FLOOR_OF.get(wing_of(other), 99) >= FLOOR_OF[wing]
    }
    assert too_high == set()


@pytest.mark.parametrize("wing", sorted({wing_of(name) for name in FILES}))
def test_within_a_wing_imports_form_no_circle(wing):
    own = {name for name in FILES if wing_of(name) == wing}
    assert list(TopologicalSorter({name: imported_by(name) & own for name in own}).static_order())


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_studies_do_not_import_each_other_nor_reports_nor_the_command(name):
    seen = imported_by(name)
    assert {other for other in seen if wing_of(other) in ("reports", "command", "")} == set()
    assert {part_of(other) for other in seen & ANALYSES} <= {*SHARED, part_of(name)}


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_pages_know_results_and_figures_and_not_each_other(name):
    seen = imported_by(name)
    assert {wing_of(other) for other in seen} <= {*BELOW_PAGES, "reports"}
    assert {part_of(other) for other in seen & REPORTS} <= {*PAGES, part_of(name)}


def test_wings_and_files_do_not_bear_the_names_of_public_functions():
    inner = {part for name in LIBRARY for part in name.split(".")[1:]}
    assert inner & {name for name in probe.__all__ if inspect.isfunction(getattr(probe, name))} == set()


def test_the_first_file_of_each_wing_is_its_story_and_nothing_else():
    for name, path in FILES.items():
        if path.name == "__init__.py" and name not in FRONTS:
            (story,) = tree_of(name).body
            assert len(ast.literal_eval(story.value)) > 60, name


def test_the_wheel_holds_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert set(listed) == {name for name, path in FILES.items() if path.name == "__init__.py"}


def test_every_file_has_a_test_file_of_its_name():
    """``tests/<wing>/test_<file>.py``; of studies in folders, that of the whole study alone must be there."""
    stories = {name for name, path in FILES.items() if path.name == "__init__.py"}
    wanted = set()
    glance = {name for name in REPORTS if name.startswith("probe.reports.glance.")}
    for name in ({*LIBRARY} | glance) - stories - {"probe.__main__"}:
        *wing, file = name.split(".")[1:]
        wanted.add("/".join(["tests", *wing, f"test_{file}.py"]))
    for name in ANALYSES - stories:
        *study, file = name.split(".")[2:]
        if not study or study[0] in SHARED or file == "study":
            wanted.add("/".join(["tests", "analyses", *study, f"test_{file}.py"]))
    assert {path for path in wanted if not (ROOT / path).is_file()} == set()


def test_hooks_are_set_in_one_file():
    registering = {
        name
        for name in FILES
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and "register" in node.attr and "forward" in node.attr
    }
    on_a_copy_of_its_own = {"probe.variants.alignment"}
    assert registering - on_a_copy_of_its_own == {"probe.models.hooks"}


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
    names = sorted({name for name in FILES if wing_of(name) in {*BELOW_PAGES, "reports"}})
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
        if wing_of(name) in ("command", "__main__"):
            continue
        module = import_module(name)
        for attribute in getattr(module, "__all__", ()):
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


USERS_OWN = ("probe", "probe.testing")


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
    assert by_name["collect"].keys() - by_name["layerwise"].keys() == {"first_image", "shard"}


RECIPES = [n for n in probe.__all__ if inspect.isfunction(getattr(probe, n))]


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_begin_with_three_recipes_that_fit_the_signature(name):
    uses = inspect.getdoc(getattr(probe, name)).partition("The commonest uses::\n\n")[2].partition("\n\n")[0]
    statements = [ast.parse(textwrap.dedent(line)) for line in uses.splitlines()]
    assert len(statements) == 3
    calls = [
        node
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"probe.{name}"
    ]
    assert len(calls) >= 3
    signature = inspect.signature(getattr(probe, name))
    for call in calls:
        given = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
        signature.bind_partial(*given, **{keyword.arg: None for keyword in call.keywords})
