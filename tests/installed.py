"""Check an installed probe: python -I tests/installed.py, of an environment that knows nothing of this folder.

All files of probe, analyses/ and reports/ must be installed, no others, and every module must import.
"""

import re
import sys
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parents[1]


def files_below(folder: Path) -> set[str]:
    """Return the files of a package, relative to it."""
    paths = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def files_to_install(root: Path = ROOT) -> set[str]:
    """Return the files that belong into an installed probe, relative to its folder; notes on studies do not."""
    parts = {f"{part}/{name}" for part in ("analyses", "reports") for name in files_below(root / part)}
    return {name for name in files_below(root / "probe") | parts if not name.endswith(".md")}


def main() -> None:
    probe = import_module("probe")
    folder = Path(probe.__file__).parent
    if not folder.is_relative_to(sys.prefix):
        sys.exit(f"{folder} is not within the environment {sys.prefix}")
    differing = files_below(folder) ^ files_to_install()
    if differing:
        sys.exit(f"installed or to be installed, not both: {', '.join(sorted(differing))}")
    modules = sorted(name for name in files_below(folder) if name.endswith(".py"))
    for name in modules:
        import_module(re.sub(r"/__init__$", "", f"probe/{name}".removesuffix(".py")).replace("/", "."))
    extras = {name for line in requires("position-probe") or () for name in re.findall(r'extra == "(\w+)"', line)}
    print(f"probe {probe.__version__} in {folder}: {len(modules)} modules import; extras {', '.join(sorted(extras))}")  # noqa: T201


if __name__ == "__main__":
    main()
