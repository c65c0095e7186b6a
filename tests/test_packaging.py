"""What is installed: the packages of probe alone, whatever stands in the folder that it is used from."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.installed import files_to_install

ROOT = Path(__file__).parents[1]

USED_ELSEWHERE = """
import probe, probe.analyses.nets, probe.analyses.rook, probe.reports
from probe.reports.page.document import Report
import reports, analyses
assert reports.OWN and analyses.OWN
Report("Title").html()
assert probe.reports.__name__ == "probe.reports"
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with packages of the two names that are common in science."""
    for name in ("reports", "analyses"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWN = True\n")
    return tmp_path


def test_the_editable_install_works_beside_packages_of_the_same_names(elsewhere):
    subprocess.run([sys.executable, "-c", USED_ELSEWHERE], cwd=elsewhere, check=True)


def test_the_wheel_of_the_sdist_holds_all_of_probe_alone_and_works_beside_packages_of_the_same_names(elsewhere):
    source, built, target = elsewhere / "source", elsewhere / "built", elsewhere / "installed"
    # A build leaves folders beside the sources.
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert {"tests", "examples"} & {part for name in archive.getnames() for part in name.split("/")[1:2]} == set()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(built), str(sdist)], check=True)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(target)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"probe", "position_probe"}
    assert {name.removeprefix("probe/") for name in names if name.startswith("probe/")} == files_to_install(source)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n{USED_ELSEWHERE}\nassert {str(target)!r} in probe.__file__"
    )
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True)
