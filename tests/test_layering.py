"""The rooms and their direction, as design.md draws them, read off the imports of every module."""

import ast
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

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


@cache
def imports(module: str) -> frozenset[str]:
    """Every module named by an import anywhere in the file, function bodies and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules or {str(node.module)}
    return frozenset(found)


def outside(module: str) -> frozenset[str]:
    return frozenset(name.split(".")[0] for name in imports(module)) - {"arithcirc"}


INNER = [m for m in MODULES if room(m) not in ("arithcirc", "cli", "__main__")]


def all_hold(modules: Iterable[str], rule: Callable[[str], object]) -> None:
    """A test for each module would take longer to report than to run: one names all that break the rule, and how."""
    broken = {module: found for module in modules if (found := rule(module))}
    assert not broken


def test_a_module_imports_only_its_own_room_and_those_below():
    def strangers(module):
        used = {room(name) for name in imports(module) if name.startswith("arithcirc")}
        return used - {room(module)} - ABOVE[room(module)]

    all_hold(INNER, strangers)


def test_inner_modules_never_import_the_root():
    all_hold(INNER, lambda module: {"arithcirc"} & imports(module))


def test_nothing_but_the_entry_point_imports_the_command_line():
    def users(module):
        used = {name for name in imports(module) if room(name) == "cli"}
        return used ^ ({"arithcirc.cli.main"} if module == "arithcirc.__main__" else set())

    all_hold([m for m in MODULES if room(m) != "cli"], users)


def test_heavy_libraries_stay_in_their_rooms():
    homes = {
        ("transformer_lens",): {"models"},
        ("transformers",): {"models", "training"},
        ("torch", "tokenizers"): COMPUTE,
        ("plotly", "dash", "jinja2", "kaleido"): set(VIEW),
        ("rich", "cyclopts"): {"cli"},
    }

    def astray(module):
        return {n for names, rooms in homes.items() if room(module) not in rooms for n in outside(module) & set(names)}

    all_hold(MODULES, astray)


def test_the_methods_are_siblings():
    assert all(not ABOVE[method] & set(METHODS) for method in METHODS)


def test_the_package_neither_prints_nor_asserts_nor_pickles():
    refused = {"print", "torch.load", "torch.save", "pd.read_pickle"}

    def found(module):
        lines = [f"imports {name}" for name in outside(module) & {"pickle", "dill", "joblib", "shelve"}]
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.Assert):
                lines.append(f"{node.lineno} asserts")
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in refused:
                lines.append(f"{node.lineno} {called}")
        return lines

    all_hold(MODULES, found)


def test_modules_and_functions_stay_short():
    def long(module):
        functions = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.FunctionDef)]
        found = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60]
        length = len(MODULES[module].read_text(encoding="utf-8").splitlines())
        return found + ([f"{length} lines"] if length > 400 else [])

    all_hold(MODULES, long)


def test_every_module_says_what_it_is():
    all_hold(MODULES, lambda module: bool(TREES[module].body and not ast.get_docstring(TREES[module])))
