"""The direction of dependencies of ARCHITECTURE.md, read from every import statement of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
FILES = sorted((TOP / "romvae").rglob("*.py"))
NAMES = {file: ".".join(file.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__") for file in FILES}
MODULES = {name: file for file, name in NAMES.items()}

# What a part may never import, whether at the top of a file, inside a function or for type checking only.
FORBIDDEN = {
    ("schema", "grid", "boundary", "canonical", "check", "statistics", "errors", "units"): {"torch", "lightning"},
    ("atomic", "lock", "memory", "processes", "tasks", "launch", "supervision"): {"torch", "lightning"},
    ("solvers", "metrics", "plot", "report", "settings", "settings_file", "progress"): {"torch", "lightning"},
    ("batched_solve", "distributions", "nn", "vae", "dynamics", "priors", "objectives", "kinds", "ranks"): {
        "xarray",
        "lightning",
        "h5py",
        "zarr",
        "h5netcdf",
    },
    ("data", "rom", "rollout", "held_back", "forecast", "assembly", "cost", "calibration", "checkpoint", "tensors"): {
        "lightning"
    },
    (
        "comparison",
        "baselines",
        "candidates",
        "budget",
        "normalise",
        "streamed",
        "demo",
        "version",
        "latent",
        "start",
        "linear_start",
        "invariance",
        "alarm",
        "alarm_signal",
        "hybrid",
        "hybrid_course",
        "hybrid_learning",
        "hybrid_residual",
        "hybrid_run",
        "trust",
        "assimilation",
        "acquisition",
        "physics",
        "ragged",
        "propagation",
        "first_order",
        "agreement",
        "grading",
        "pieces",
        "excerpt",
        "quantities",
        "symmetry",
        "benchmark",
        "deployment",
        "studies",
    ): {"lightning"},
    ("cli", "commands", "environment", "selfcheck"): {"lightning"},
    ("trust", "hybrid", "hybrid_learning", "hybrid_run", "assimilation", "acquisition", "campaign"): {"lightning"},
    ("campaign_cases", "campaign_plan", "simulated"): {"torch", "lightning"},
}
# Parts that stay free of torch also through what they import from romvae.
TORCH_FREE = (
    "schema",
    "solvers",
    "metrics",
    "plot",
    "settings",
    "settings_file",
    "progress",
    "atomic",
    "cli",
    "launch",
    "supervision",
)
# Installed under another name than they are imported by.
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "google_crc32c": "google-crc32c"}


def imports(file: Path, top_level_only: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports, with `from a import b` giving both `a` and `a.b`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in _at_import_time(tree.body) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, file)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import_time(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _at_import_time(getattr(node, field, []))


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    if not node.level:
        return node.module or ""
    package = file.relative_to(TOP).parent.parts
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def part(name: str) -> str:
    """`nn` for `romvae.nn.conv`."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("file", FILES, ids=list(NAMES.values()))
def test_each_part_keeps_to_its_libraries(file):
    forbidden = {library for parts, some in FORBIDDEN.items() if part(NAMES[file]) in parts for library in some}
    assert forbidden.isdisjoint(name.partition(".")[0] for name in imports(file))


def test_only_training_imports_lightning():
    using = {part(NAMES[file]) for file in FILES if "lightning" in {i.partition(".")[0] for i in imports(file)}}
    assert using <= {"training"}


def test_every_part_has_a_rule():
    ruled = {name for parts in FORBIDDEN for name in parts} | {"training", "testing", "__main__", ""}
    assert {part(name) for name in MODULES} <= ruled


@pytest.mark.parametrize("start", [name for name in MODULES if part(name) in TORCH_FREE])
def test_torch_free_parts_reach_no_torch_through_romvae(start):
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        found = set(imports(MODULES[name], top_level_only=True))
        assert "torch" not in {item.partition(".")[0] for item in found}, f"{start} imports torch through {name}"
        waiting += found
        waiting += [name.rpartition(".")[0]] if "." in name else []  # importing a module runs its packages


def test_every_imported_library_is_declared():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_distribution(requirement) for requirement in project["dependencies"]}
    found = {name.partition(".")[0] for file in FILES for name in imports(file)} - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name) for name in found - {"romvae"}} <= declared


def test_every_extra_that_a_message_names_is_declared():
    """`pip install 'romvae[extra]'` has to exist, and nobody may need an extra to import romvae."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for file in FILES for extra in _extras(file)}
    assert {"dask"} <= named <= set(project["optional-dependencies"])


def _extras(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "optional_import":
            yield ast.literal_eval(node.args[1])


def _distribution(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].split("[")[0].strip().lower()


@pytest.mark.parametrize(
    "code",
    [
        "import romvae",
        "import romvae.cli; romvae.cli.main(['--help'])",
        "import romvae.cli; romvae.cli.main(['simulate', '--help'])",
        "import romvae.cli; romvae.cli.main(['train', '--help'])",
        "import romvae.solvers",
        "import romvae; romvae.solvers.simulate",
        "import romvae.schema",
        "import romvae.plot",
    ],
)
def test_light_entry_points_import_neither_torch_nor_lightning(code):
    check = f"{code}\nimport sys\nassert not {{'torch', 'lightning'}} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", check], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_module_is_named_after_nothing():
    unclear = {"utils", "helpers", "misc", "common", "core"}
    assert unclear.isdisjoint(item for name in MODULES for item in name.split("."))


def test_unsafe_calls_do_not_occur():
    calls = ("pickle.load", "yaml.load(", "weights_only=False", "allow_pickle=True", "eval(", "os.system(")
    forbidden = (*calls, "shell=True", "extractall(", "unpack_archive(", "HDF5_PLUGIN_PATH")
    text = {name: file.read_text(encoding="utf-8") for name, file in MODULES.items()}
    found = [(name, call) for name, code in text.items() for call in forbidden if call in _calls(code)]
    assert not found
    loads = [line for code in text.values() for line in code.splitlines() if "torch.load(" in line]
    assert loads
    assert all("weights_only=True" in line for line in loads)  # left out, an environment variable could undo it


def _calls(code: str) -> str:
    """Code without the calls whose names only end like an unsafe one."""
    return code.replace(".eval(", "").replace("ast.literal_eval(", "")
