"""Registries: names from this package and from others, found without importing anything."""

import importlib
import sys

import pytest

from clippy_core.errors import ClippyError, PluginError, UsageError
from clippy_core.registry import OWN_DISTRIBUTION, Entry, Registry

GROUP = "clippy.tests"
BUILTINS = {"sqrt": ("math:sqrt", "square root"), "join": ("os:path.join", "dotted"), "module": ("json", "no object")}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install packages into a folder on the path: ``packages("their-tools", {"name": "module:object"})``."""

    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, points, *, group=GROUP, modules=None):
        module = name.replace("-", "_")
        information = tmp_path / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{point} = {target}" for point, target in points.items()]
        (information / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        for module_name, source in (modules or {}).items():
            (tmp_path / f"{module_name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module_name, raising=False)
        importlib.invalidate_caches()

    before = set(sys.modules)
    yield install
    for module_name in set(sys.modules) - before:
        if str(getattr(sys.modules[module_name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module_name]


def registry(builtins=BUILTINS):
    return Registry(GROUP, "tool", builtins)


def test_built_ins_are_listed_in_their_order_and_loaded_by_name():
    import math
    import os

    tools = registry()
    assert tools.names() == ["sqrt", "join", "module"]
    assert tools.load("sqrt") is math.sqrt
    assert tools.load("join") is os.path.join
    assert tools.load("module").__name__ == "json"
    assert tools.entry("sqrt") == Entry("sqrt", "math:sqrt", OWN_DISTRIBUTION, "square root")
    assert "sqrt" in tools
    assert "cube" not in tools


def test_entry_points_of_other_packages_stand_beside_the_built_ins(packages):
    packages(
        "their-tools", {"twice": "their_twice:double"}, modules={"their_twice": "def double(x):\n    return 2 * x\n"}
    )
    packages("more-tools", {"abacus": "more_abacus:Abacus.count"})
    tools = registry()
    assert tools.names() == ["sqrt", "join", "module", "abacus", "twice"]
    assert tools.entry("twice") == Entry("twice", "their_twice:double", "their-tools")
    assert tools.load("twice")(4) == 8
    assert {entry.source for entry in tools} == {OWN_DISTRIBUTION, "their-tools", "more-tools"}


def test_listing_imports_nothing(packages):
    packages("their-tools", {"bomb": "their_bomb:go"}, modules={"their_bomb": "raise SystemExit('imported')\n"})
    tools = registry()
    assert "bomb" in tools.names()
    assert [entry.name for entry in tools] == tools.names()
    assert tools.entry("bomb").target == "their_bomb:go"
    assert "their_bomb" not in sys.modules


def test_other_groups_are_left_alone(packages):
    packages("their-tools", {"elsewhere": "their_elsewhere:go"}, group="clippy.other")
    assert "elsewhere" not in registry()
    assert Registry("clippy.other", "thing", {}).names() == ["elsewhere"]


@pytest.mark.parametrize("target", ["their_module:go", "their_module:go [extra]", "their_module : go"])
def test_extras_and_spaces_in_a_target_mean_nothing(packages, target):
    packages("their-tools", {"go": target}, modules={"their_module": "def go():\n    return 'gone'\n"})
    assert registry().load("go")() == "gone"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("same", {"one-package": "one:go", "two-package": "two:go"}),
        ("sqrt", {"one-package": "one:root", OWN_DISTRIBUTION: "math:sqrt"}),
        ("same", {"one-package": "math:sqrt", "two-package": "math:sqrt"}),
    ],
)
def test_a_name_claimed_twice_is_an_error_naming_both_packages(packages, name, claims):
    for package, target in claims.items():
        if package != OWN_DISTRIBUTION:
            packages(package, {name: target})
    tools = registry()
    one, two = (f"{package!r} ({target})" for package, target in claims.items())
    message = "tool {!r} is registered by {} and {}; uninstall one of them"
    for ask in (tools.entry, tools.load):
        with pytest.raises(PluginError) as caught:
            ask(name)
        assert str(caught.value) in (message.format(name, one, two), message.format(name, two, one))
    assert {entry.source for entry in tools if entry.name == name} == set(claims)


def test_a_name_claimed_twice_harms_no_other(packages):
    packages("one-package", {"same": "one:go"})
    packages("two-package", {"same": "two:go", "fine": "math:floor"})
    tools = registry()
    assert tools.load("fine")(1.5) == 1
    assert tools.load("sqrt")(4) == 2


def test_one_package_that_is_found_twice_claims_a_name_once(packages, tmp_path, monkeypatch):
    packages("one-package", {"cube": "math:cbrt"})
    (tmp_path / "again").mkdir()
    (tmp_path / "one_package-1.0.dist-info").rename(tmp_path / "again" / "one_package-1.0.dist-info")
    packages("one-package", {"cube": "math:cbrt"})
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    assert registry().load("cube")(27) == pytest.approx(3)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (None, "their_broken:go", "ModuleNotFoundError: No module named 'their_broken'"),
        ("import nothing_like_this\n", "their_broken:go", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("def go(:\n", "their_broken:go", "SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')\n", "their_broken:go", "ValueError: two"),
        ("import sys\nsys.exit(3)\n", "their_broken:go", "SystemExit: 3"),
        ("1 / 0\n", "their_broken:go", "ZeroDivisionError: division by zero"),
        ("x = 1\n", "their_broken:go", "AttributeError: module 'their_broken' has no attribute 'go'"),
        ("x = 1\n", "their_broken:x.y", "AttributeError: 'int' object has no attribute 'y'"),
        ("x = 1\n", ":x", "ValueError: Empty module name"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_package_and_the_reason(packages, source, target, reason):
    packages("their-tools", {"broken": target}, modules={} if source is None else {"their_broken": source})
    with pytest.raises(PluginError) as caught:
        registry().load("broken")
    message = f"plug-in 'broken' of package 'their-tools' cannot be loaded: {reason}"
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert registry().load("sqrt")(9) == 3


def test_an_interrupt_while_a_plug_in_is_imported_is_not_its_fault(packages):
    packages("their-tools", {"slow": "their_slow:go"}, modules={"their_slow": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        registry().load("slow")


@pytest.mark.parametrize(
    ("target", "kind"), [("no_such_module:go", ModuleNotFoundError), ("math:no_such_thing", AttributeError)]
)
def test_a_broken_built_in_is_our_own_mistake_and_is_not_disguised(target, kind):
    with pytest.raises(kind):
        registry({"broken": (target, "")}).load("broken")
    assert not issubclass(kind, ClippyError)


@pytest.mark.parametrize(
    ("builtins", "name", "message"),
    [
        (BUILTINS, "sqr", "unknown tool 'sqr'; did you mean sqrt?"),
        (BUILTINS, "joins", "unknown tool 'joins'; did you mean join?"),
        ({"segment": ("a:b", ""), "segments": ("a:b", "")}, "segmen", "unknown tool 'segmen'; did you mean segment or"),
        (BUILTINS, "zzzz", "unknown tool 'zzzz'; known: sqrt, join, module"),
        (BUILTINS, "", "unknown tool ''; known: sqrt, join, module"),
        ({}, "sqrt", "unknown tool 'sqrt'; none is registered"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(builtins, name, message):
    tools = registry(builtins)
    for ask in (tools.entry, tools.load):
        with pytest.raises(UsageError) as caught:
            ask(name)
        assert str(caught.value).startswith(message)


def test_names_of_plug_ins_are_offered_too(packages):
    packages("their-tools", {"their-writer": "a:b"})
    with pytest.raises(UsageError, match="did you mean their-writer"):
        registry().entry("their-write")


def own_entries():
    from clippy_cli.inventory import REGISTRIES

    return [(tools, entry) for tools in REGISTRIES for entry in tools if entry.source == OWN_DISTRIBUTION]


@pytest.mark.parametrize(("tools", "entry"), own_entries(), ids=lambda value: getattr(value, "name", ""))
def test_every_built_in_loads_and_has_a_summary(tools, entry):
    assert entry.summary
    assert callable(tools.load(entry.name))
