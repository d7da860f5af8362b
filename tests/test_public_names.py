"""What `arithcirc` offers: one list, lazily loaded, the same for type checkers."""

import ast
import re
from pathlib import Path

import pytest

import arithcirc

TREE = ast.parse(Path(arithcirc.__file__).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", arithcirc.__all__)
def test_every_public_name_resolves(name):
    assert getattr(arithcirc, name) is not None


def test_the_lists_agree():
    typed = [block for block in TREE.body if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"]
    imported = {alias.name: node.module for node in typed[0].body for alias in node.names}
    assert imported == arithcirc._WHERE
    assert set(arithcirc.__all__) == set(dir(arithcirc)) == set(imported)
    assert len(arithcirc.__all__) == len(set(arithcirc.__all__))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        arithcirc.nothing  # noqa: B018


def test_names_in_the_readme_resolve():
    readme = Path(__file__).resolve().parent.parent / "README.md"
    if not readme.is_file():
        pytest.skip("README.md is not in this installation")
    code = "".join(re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert set(re.findall(r"\bac\.([A-Za-z_]\w*)", code)) <= set(arithcirc.__all__)
    imported = re.findall(r"from arithcirc import (.+)", code)
    assert {name.strip() for line in imported for name in line.split(",")} <= set(arithcirc.__all__)
