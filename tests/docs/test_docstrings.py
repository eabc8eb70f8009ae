"""Tests that docstrings describe the parameters that their functions have."""

import importlib.util
import re

import griffe
import pytest

from .reading import ROOT, docstrings, package, resolves

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`~?(\w[\w.]*)`")


pytestmark = pytest.mark.xdist_group("docs")


def objects(parent):
    """Yield the functions and classes below an object, private ones too."""
    for member in parent.members.values():
        if member.is_alias:
            continue
        if member.is_function or member.is_class:
            yield member
        if member.is_module or member.is_class:
            yield from objects(member)


def described(thing, kind):
    """Return the names that a section of a docstring describes, in order."""
    if not thing.docstring:
        return []
    sections = thing.docstring.parse("google", warnings=False)
    return [entry.name for section in sections if section.kind.value == kind for entry in section.value]


def parameters(thing):
    """Return the names of the parameters of a function, or of a class's constructor."""
    return [one.name.lstrip("*") for one in thing.parameters if one.name not in ("self", "cls")]


def mistakes(thing):
    """Yield what is wrong with the section ``Args`` of a docstring."""
    named = [name.lstrip("*") for name in described(thing, "parameters")]
    if not named:
        return
    known = parameters(thing)
    yield from (
        f"{thing.path}: describes {name}, which is no parameter" for name in named if name not in known
    )
    yield from (f"{thing.path}: does not describe {name}" for name in known if name not in named)
    if sorted(named) == sorted(known) and named != known:
        yield f"{thing.path}: describes its parameters in another order"


def test_args_are_the_parameters():
    things = list(objects(package()))
    assert len([thing for thing in things if described(thing, "parameters")]) > 50
    wrong = [mistake for thing in things for mistake in mistakes(thing)]
    assert not wrong, "\n".join(wrong)


def test_attributes_exist():
    wrong = []
    for thing in objects(package()):
        names = described(thing, "attributes")
        known = {*thing.all_members, *parameters(thing)} if thing.is_class else set()
        known |= set(re.findall(r"self\.(\w+)", thing.source or ""))  # assigned together with another name
        wrong += [f"{thing.path}: {name}" for name in names if name not in known]
    assert not wrong, "\n".join(wrong)


def test_roles_name_something():
    """``:class:`X``` names something that the module has, or something of another module by its full name."""
    wrong = []
    for place, text, path in docstrings():
        if path.is_relative_to(ROOT / "ivos"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            wrong += [f"{place}: {name}" for name in ROLE.findall(text) if not _known(name, module)]
    assert not wrong, "\n".join(wrong)


def _known(name, module):
    """Whether a name is known in a module, its package, one of its classes, or by its full name."""
    if (name.startswith("ivos.") and resolves(name)) or resolves(f"{module.rpartition('.')[0]}.{name}"):
        return True
    first, _, rest = name.partition(".")
    here = package().modules_collection[module]
    if first in here.members:
        member = here.members[first]
        if not rest:
            return True
        if member.is_alias:
            return not member.target_path.startswith("ivos.") or resolves(f"{member.target_path}.{rest}")
        return resolves(f"{module}.{name}")
    classes = [member for member in here.members.values() if not member.is_alias and member.is_class]
    if any(first in one.members or first in one.inherited_members for one in classes):
        return True
    return not name.startswith("ivos") and "." in name and importlib.util.find_spec(first) is not None


def test_the_check_finds_what_is_wrong():
    code = '''
def f(a, b):
    """Do something.

    Args:
        b: second.
        a: first.
    """

def g(a, b):
    """Do something.

    Args:
        a: first.
        c: third.
    """
'''
    module = griffe.visit("module", None, code)
    assert len(list(mistakes(module["f"]))) == 1
    assert len(list(mistakes(module["g"]))) == 2
