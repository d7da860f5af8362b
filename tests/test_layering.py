"""The rooms and their direction, as design.md draws them, read off the imports of every module."""

import ast
from pathlib import Path

import pytest

import arithcirc

PACKAGE = Path(arithcirc.__file__).parent
MODULES = {
    ".".join(("arithcirc", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

ABOVE = {  # room -> rooms it may import
    "errors": set(),
    "components": {"errors"},
    "config": {"errors", "components"},
    "store": {"errors", "components", "config"},
    "catalogue": {"errors", "components", "config", "store"},
    "neuron_maps": {"errors", "components", "config", "store", "catalogue"},
    "questions": {"errors", "components", "neuron_maps"},
    "influence_scores": {"errors", "components", "config", "store"},
}
BASE = set(ABOVE)
ABOVE["arithmetic"] = {*BASE}
ABOVE["models"] = {*ABOVE["arithmetic"], "arithmetic"}
ABOVE["measure"] = ABOVE["training"] = {*ABOVE["models"], "models"}
METHODS = ("circuits", "heuristics", "influence", "axioms")
for _method in METHODS:
    ABOVE[_method] = {*ABOVE["measure"], "measure", "training"}
ABOVE["pipeline"] = {*ABOVE["circuits"], *METHODS}
ABOVE["sweep"] = {*ABOVE["pipeline"], "pipeline"}
ABOVE["live"] = {*ABOVE["measure"], "measure"}
ABOVE["viz"] = {*BASE}
ABOVE["report"] = ABOVE["explorer"] = {*BASE, "viz"}
VIEW = ("viz", "report", "explorer")
COMPUTE = set(ABOVE) - BASE - set(VIEW)


def room(module: str) -> str:
    """`arithcirc.models.load` -> `models`; the root and `__main__` are rooms of their own."""
    return module.split(".")[1] if "." in module else module


def imports(module: str) -> set[str]:
    """Every module named by an import anywhere in the file, function bodies and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules or {str(node.module)}
    return found


def outside(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)} - {"arithcirc"}


inner = pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in ("arithcirc", "cli", "__main__")])
every = pytest.mark.parametrize("module", list(MODULES))


@inner
def test_a_module_imports_only_its_own_room_and_those_below(module):
    used = {room(name) for name in imports(module) if name.startswith("arithcirc")}
    assert used - {room(module)} <= ABOVE[room(module)]


@inner
def test_inner_modules_never_import_the_root(module):
    assert "arithcirc" not in imports(module)


@every
def test_nothing_but_the_entry_point_imports_the_command_line(module):
    if room(module) != "cli":
        used = {name for name in imports(module) if room(name) == "cli"}
        assert used == ({"arithcirc.cli.main"} if module == "arithcirc.__main__" else set())


@every
def test_heavy_libraries_stay_in_their_rooms(module):
    here, used = room(module), outside(module)
    assert "transformer_lens" not in used or here == "models"
    assert "transformers" not in used or here in {"models", "training"}
    assert not used & {"torch", "tokenizers"} or here in COMPUTE
    assert not used & {"plotly", "dash", "jinja2", "kaleido"} or here in VIEW
    assert not used & {"rich", "cyclopts"} or here == "cli"


def test_the_methods_are_siblings():
    assert all(not ABOVE[method] & set(METHODS) for method in METHODS)


@every
def test_the_package_neither_prints_nor_asserts_nor_pickles(module):
    assert not outside(module) & {"pickle", "dill", "joblib", "shelve"}
    for node in ast.walk(TREES[module]):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno} asserts"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "torch.load", "torch.save", "pd.read_pickle"}, f"{module}:{node.lineno}"


@every
def test_modules_and_functions_stay_short(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{module}.{node.name} is too long"


@every
def test_every_module_says_what_it_is(module):
    tree = TREES[module]
    assert ast.get_docstring(tree) or not tree.body
