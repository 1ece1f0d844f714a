"""dvc.yaml says of each stage what its code is; the imports say the same. The layers keep their distance."""

import ast
import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT, project_files

from perennial.params import read_yaml
from perennial.simulate import simulate_month

SOURCE = ROOT / "src"
PIPELINE: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")
STAGES = list(PIPELINE["stages"])


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names a module imports wherever it does so, but for those that only a type checker follows."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from imported(ast.Module([other], []), package)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        yield from imported(node, package)


def file_of(module: str) -> Path | None:
    """The file of a first-party module; none for other people's modules and for names inside a module."""
    path = SOURCE.joinpath(*module.split("."))
    return next((found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()), None)


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def needs(file: Path) -> frozenset[Path]:
    """The first-party files that a module imports or names: modules, and what lies beside it such as a template."""
    package = module_of(file) if file.name == "__init__.py" else module_of(file).rpartition(".")[0]
    names = set(imported(parsed(file), package))
    packages = {".".join(name.split(".")[:count]) for name in names for count in range(1, name.count(".") + 1)}
    modules = {found for name in names | packages if (found := file_of(name))}
    beside = {other.name: other for other in file.parent.iterdir() if other.is_file() and other.suffix != ".py"}
    words = {node.value for node in ast.walk(parsed(file)) if isinstance(node, ast.Constant)}
    return frozenset(modules | {other for name, other in beside.items() if name in words})


def closure(file: Path) -> set[Path]:
    """A module's file and all that it needs, directly or not."""
    found, waiting = {file}, [file]
    while waiting:
        for other in needs(waiting.pop()) - found:
            found.add(other)
            if other.suffix == ".py":
                waiting.append(other)
    return found


def changes_something(file: Path) -> bool:
    """Whether a file holds more than a docstring."""
    return file.suffix != ".py" or any(not isinstance(node, ast.Expr) for node in parsed(file).body)


def entry(stage: dict[str, Any]) -> Path:
    module = re.fullmatch(r"python -m ([\w.]+)", stage["cmd"])
    assert module, f"{stage['cmd']}: cannot tell which module this runs"
    file = file_of(module[1])
    assert file, f"{stage['cmd']}: no such module"
    return file


def outputs(stage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path and options of everything a stage writes."""
    entries = [item for key in ("outs", "metrics", "plots") for item in stage.get(key, [])]
    return {
        name: options for item in entries for name, options in ({item: {}} if isinstance(item, str) else item).items()
    }


def wrong_deps(pipeline: dict[str, Any]) -> list[str]:
    """What each stage's deps lack, and what they list for nothing."""
    written = {name for stage in pipeline["stages"].values() for name in outputs(stage)} | {"${data.raw}"}
    lines = []
    for name, stage in pipeline["stages"].items():
        code = {file for file in closure(entry(stage)) if changes_something(file)}
        wanted = {file.relative_to(ROOT).as_posix() for file in code}
        listed = {dep for dep in stage["deps"] if not any(dep == out or dep.startswith(f"{out}/") for out in written)}
        lines += [f"{name}: missing {dep}" for dep in sorted(wanted - listed)]
        lines += [f"{name}: superfluous {dep}" for dep in sorted(listed - wanted)]
    return lines


def test_deps_are_what_the_code_imports() -> None:
    assert wrong_deps(PIPELINE) == []


@pytest.mark.parametrize("stage", STAGES)
def test_each_dep_is_missed_when_it_is_not_listed(stage: str) -> None:
    for dep in [dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith("src/")]:
        pipeline = copy.deepcopy(PIPELINE)
        pipeline["stages"][stage]["deps"].remove(dep)
        assert wrong_deps(pipeline) == [f"{stage}: missing {dep}"]


@pytest.mark.parametrize("dep", ["src/perennial/cli.py", "src/perennial/gone.py", "Makefile"])
def test_a_dep_listed_for_nothing_is_found(dep: str) -> None:
    for stage in STAGES:
        pipeline = copy.deepcopy(PIPELINE)
        pipeline["stages"][stage]["deps"].append(dep)
        assert wrong_deps(pipeline) == [f"{stage}: superfluous {dep}"]


def test_the_walk_goes_into_functions_and_past_type_checking() -> None:
    code = """
import a.b, c as d
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only.types
else:
    import really
def f():
    from e.f import g
    class K:
        def m(self):
            try:
                from . import h
            finally:
                from ..i import j
"""
    found = set(imported(ast.parse(code), "top.middle"))
    assert found - {"typing", "typing.TYPE_CHECKING"} == {
        "a.b", "c", "really", "e.f", "e.f.g", "top.middle", "top.middle.h", "top.i", "top.i.j",
    }  # fmt: skip


def test_the_walk_finds_templates() -> None:
    page = SOURCE / "perennial/pipeline/page.py"
    assert SOURCE / "perennial/pipeline/report.html.j2" in closure(page)


def never_restored(pipeline: dict[str, Any]) -> list[str]:
    """The stages that DVC's run cache does not know: no cached output, or an uncached one that is not a metric."""
    return [
        name
        for name, stage in pipeline["stages"].items()
        if not any(options.get("cache", True) for options in outputs(stage).values())
        or not all(options.get("cache", True) for options in outputs({"outs": stage.get("outs", [])}).values())
    ]


def test_each_stage_can_be_restored() -> None:
    assert never_restored(PIPELINE) == []


def test_a_stage_that_is_never_restored_is_found() -> None:
    written = {
        "nothing cached": {"metrics": [{"a.json": {"cache": False}}]},
        "uncached out": {"outs": ["a", {"b.json": {"cache": False}}]},
        "fine": {"outs": ["a"], "metrics": [{"b.json": {"cache": False}}]},
    }
    assert never_restored({"stages": written}) == ["nothing cached", "uncached out"]


SPEAKS_OF_COLUMNS = ("params.yaml", "src/perennial/simulate.py", "tests/contracts/", "reports/", "models/")


def is_code_or_configuration(name: str) -> bool:
    suffixes = {".py", ".j2", ".yaml", ".yml", ".toml", ".sh"}
    path = Path(name)
    named = path.suffix in suffixes or path.name.startswith(("Makefile", "Dockerfile"))
    return (named or name.startswith(("scripts/", ".ci/", ".github/"))) and not name.startswith(SPEAKS_OF_COLUMNS)


def named_columns(text: str, columns: set[str]) -> list[str]:
    return sorted(columns & set(re.findall(r"\w+", text)))


def test_no_file_of_code_names_a_column() -> None:
    """The contract is the one place for it, so that another table needs no other edit."""
    columns = set(simulate_month("2025-01", 1, 0).columns)  # stays the built-in table, whatever params.yaml describes
    files = [name for name in project_files() if is_code_or_configuration(name)]
    assert {"Makefile", "dvc.yaml", "pyproject.toml", "scripts/install", "src/perennial/cli.py"} < set(files)
    found = {name: named_columns((ROOT / name).read_text(encoding="utf-8"), columns) for name in files}
    assert {name: names for name, names in found.items() if names} == {}


def test_a_named_column_is_found() -> None:
    column = next(iter(simulate_month("2025-01", 1, 0).columns))
    assert named_columns(f'frame["{column}"]', {column}) == [column]
    assert named_columns(f"{column}s", {column}) == []


MODULES = sorted((SOURCE / "perennial").rglob("*.py"))
PIPELINE_MODULES = [file for file in MODULES if module_of(file).startswith("perennial.pipeline")]


def reached(file: Path, *packages: str) -> list[str]:
    """The modules of these packages that a module imports, directly or not."""
    modules = sorted(module_of(other) for other in closure(file) if other.suffix == ".py")
    return [name for name in modules if any(f"{name}.".startswith(f"perennial.{package}.") for package in packages)]


@pytest.mark.parametrize("file", PIPELINE_MODULES, ids=module_of)
def test_the_pipeline_knows_nothing_of_what_comes_after(file: Path) -> None:
    assert reached(file, "serving", "review", "monitoring", "cli", "repro", "track") == []


@pytest.mark.parametrize("name", ["contract", "errors", "files", "console", "params", "inputs", "model"])
def test_what_all_share_knows_nothing_of_the_pipeline(name: str) -> None:
    assert reached(SOURCE / f"perennial/{name}.py", "pipeline") == []


def test_reaching_a_layer_is_found() -> None:
    assert "perennial.pipeline.train" in reached(SOURCE / "perennial/cli.py", "pipeline")


UNSAFE = r"\b(pickle|cloudpickle|dill|joblib|marshal|shelve|skops|read_pickle|to_pickle|allow_pickle)\b"


def unsafe_names(tree: ast.AST) -> set[str]:
    """Ways to load code in the guise of data, among a module's imports, attributes and keywords."""
    used = set(imported(tree, "perennial"))
    for node in ast.walk(tree):
        used |= {node.attr} if isinstance(node, ast.Attribute) else set()
        used |= {node.arg or ""} if isinstance(node, ast.keyword) else set()
    return {name for name in used if re.search(UNSAFE, name)}


@pytest.mark.parametrize("file", MODULES, ids=module_of)
def test_no_pickle_anywhere(file: Path) -> None:
    assert unsafe_names(parsed(file)) == set()


@pytest.mark.parametrize(
    "code",
    ["import pickle", "def f():\n    from joblib import dump", "pd.read_pickle(p)", "np.load(p, allow_pickle=True)"],
)
def test_a_pickle_is_found(code: str) -> None:
    assert unsafe_names(ast.parse(code))
