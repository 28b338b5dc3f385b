"""The layers' arrows, the layout, and what the packages never do; read from the sources."""

import ast
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import safe_open

from minillm.moved import MOVED

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path for package in ("minillm", "widgets") for path in (ROOT / package).rglob("*.py")
)
JUPYTER = {
    "jupyter",
    "jupyter_client",
    "jupyter_core",
    "jupyterlab",
    "ipykernel",
    "ipywidgets",
    "IPython",
    "plotly",
    "anywidget",
    "traitlets",
    "nbformat",
    "nbclient",
}
POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
WEIGHTS = sorted(path.parent for path in (ROOT / "minillm" / "weights").glob("*/config.json"))


def each_module(test: Callable[[Path], None]) -> Callable[[], None]:
    """One test over all modules, which names those that fail."""

    def test_all() -> None:
        failed = {}
        for path in MODULES:
            try:
                test(path)
            except AssertionError as error:
                failed[str(path.relative_to(ROOT))] = str(error)
        assert failed == {}

    return test_all


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, walk: Callable[[ast.AST], Iterable[ast.AST]] = ast.walk) -> set[str]:
    """The full names of all modules that a file imports, wherever in it `walk` comes."""
    names: set[str] = set()
    for node in walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from outside_functions(child)


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


# Layers


@each_module
def test_dependencies_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"minillm": JUPYTER | {"widgets", "notebooks", "tests"}}.get(
        package, {"notebooks", "tests"}
    )
    assert not roots(path) & forbidden


# The rooms of minillm, each importing what stands behind it only. What shares a line is apart: its
# members do not know each other.
FLOORS = (
    ("commands",),
    ("bench", "training"),
    ("fast",),
    ("public_model",),
    ("serving",),
    ("scaling",),
    ("gptq",),
    ("quantization",),
    ("sparsity",),
    ("lookahead",),
    ("jacobi",),
    ("speedup",),
    ("speculative",),
    ("measure",),
    ("data",),
    ("checkpoint",),
)
GROUND = {  # lessons 00 to 03, and what all share
    *("transformer", "attention", "rotary", "rope_scaling", "norm", "gemma"),
    *("config", "config_fields"),
    *("sampling", "batch", "decoding", "ragged", "kv_cache", "roofline"),
    *("tokens", "modules", "files", "kept", "whole", "moved", "threads"),
}
ROOMS = GROUND.union(*FLOORS)


def room_of(module: str) -> str:
    """Its first name within minillm; of what minillm itself offers, none."""
    return [*module.split("."), ""][1]


def floor_of(module: str) -> int:
    """How far below the commands a module of minillm stands; minillm itself stands on the last."""
    room = room_of(module)
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def arrows_up(module: str, imports: Iterable[str]) -> list[str]:
    """What a module of minillm imports from a room above its own, from another beside it, or from
    none: what minillm itself offers comes from above.
    """
    floor = floor_of(module)
    ours = sorted(name for name in imports if name.startswith("minillm."))
    return [
        name
        for name in ours
        if floor_of(name) < floor
        or room_of(name) not in ROOMS
        or (floor_of(name) == floor < len(FLOORS) and room_of(name) != room_of(module))
    ]


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in turn, and those that need them; none if all have an order.

    A module that imports a name of its own is no circle.
    """
    left = dict(imports)
    while free := [name for name, needs in left.items() if not (needs - {name}) & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


OURS = {module_name(path): path for path in MODULES if path.is_relative_to(ROOT / "minillm")}


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name) for name in OURS} - {""}
    assert rooms == ROOMS


@each_module
def test_a_room_imports_downwards_only(path: Path) -> None:
    if path in OURS.values() and path.parent.name + path.name != "minillm__init__.py":
        assert arrows_up(module_name(path), imported(path)) == []


def test_no_modules_import_each_other() -> None:
    ours = {module_name(path): path for path in MODULES}
    known = {name: imported(path) & ours.keys() for name, path in ours.items()}
    packages = {name for name, path in ours.items() if path.name == "__init__.py"}
    assert circle({name: needs - packages for name, needs in known.items()}) == []


def test_an_arrow_that_is_planted_is_seen() -> None:
    assert arrows_up("minillm.scaling.kbit", {"minillm.training.data", "torch"}) == [
        "minillm.training.data"
    ]
    assert arrows_up("minillm.bench.rows", {"minillm.commands.table"}) == ["minillm.commands.table"]
    assert arrows_up("minillm.bench.rows", {"minillm.training.data"}) == ["minillm.training.data"]
    assert arrows_up("minillm.speculative.decode", {"minillm.lookahead"}) == ["minillm.lookahead"]
    assert arrows_up("minillm.decoding", {"minillm.measure.timing"}) == ["minillm.measure.timing"]
    assert arrows_up("minillm.measure.timing", {"minillm.load"}) == ["minillm.load"]
    assert arrows_up("minillm.training.data", {"minillm.training.muon", "minillm.scaling"}) == []
    assert arrows_up("minillm.commands.bench", {"minillm.bench", "minillm.commands.table"}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize("old", sorted(MOVED))
def test_who_imports_what_has_moved_is_told_where_to(old: str) -> None:
    package, _, module = old.partition(".")
    said = re.escape(f"{old} has moved to {MOVED[old]}:")
    for line in (f"from {old} import anything", f"from {package} import {module}"):
        with pytest.raises(ImportError, match=said):
            exec(line, {})
    assert import_module(MOVED[old]).__all__


def test_what_never_was_has_not_moved() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'minillm"):
        import_module("minillm.nothing")


def test_numba_is_known_to_the_kernels_alone() -> None:
    assert {name.rpartition(".")[0] for name, path in OURS.items() if "numba" in roots(path)} == {
        "minillm.fast.kernels"
    }


@each_module
def test_only_the_bench_knows_transformers(path: Path) -> None:
    if not path.is_relative_to(ROOT / "minillm" / "bench"):
        assert "transformers" not in roots(path)


def test_import_minillm_loads_no_more_than_it_needs() -> None:
    loaded = {name.split(".")[0] for name in modules_after("import minillm")}
    assert "torch" not in loaded  # commands set first what it reads as it is loaded
    loaded = {name.split(".")[0] for name in modules_after("import minillm; minillm.load")}
    assert "torch" in loaded
    assert "minillm.decoding" in modules_after("import minillm; minillm.decoding.Step")
    assert not loaded & (JUPYTER | {"transformers", "widgets", "matplotlib", "pandas", "scipy"})


def test_minillm_offers_what_it_says_and_nothing_else() -> None:
    import minillm

    assert all(getattr(minillm, name) is not None for name in minillm.__all__)
    assert set(minillm.__all__) <= set(dir(minillm))
    with pytest.raises(AttributeError, match="'minillm' has no attribute 'lood'"):
        _ = minillm.lood


def test_loading_a_model_does_not_load_the_compiler_of_torch() -> None:
    loaded = modules_after("import minillm; minillm.load('stories-draft')")
    assert "minillm.transformer" in loaded
    assert "torch._dynamo" not in loaded  # a second, and 70 MB
    assert "sympy" not in loaded  # half a second, and 40 MB


def modules_after(code: str) -> set[str]:
    """What a fresh Python has imported when it has run this."""
    code = f"import sys; {code}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


# Layout


def git_files() -> list[Path]:
    """Files that git tracks or would track; no caches."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git working tree")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def test_the_top_level_holds_what_the_design_says() -> None:
    top = {path.parts[0] for path in git_files() if not path.parts[0].startswith(".")}
    expected = "pyproject.toml README.md LICENSE notebooks minillm widgets tests binder"
    assert top == set(expected.split())


def test_a_lesson_is_one_stem() -> None:
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert lessons
    numbers = [lesson.stem[:2] for lesson in lessons]
    assert len(set(numbers)) == len(numbers)
    for lesson in lessons:
        match = re.fullmatch(r"\d\d_([a-z_]+)", lesson.stem)
        assert match, f"{lesson.name} is not NN_stem.ipynb"
        stem = match[1]
        assert (lesson.stem[:2] == "00") == (stem == "transformer")
        code = ROOT / "minillm" / stem
        assert code.is_dir() or code.with_suffix(".py").is_file(), f"{lesson.name} has no code"
        for path in (f"widgets/{stem}/__init__.py", f"tests/{stem}/test_{stem}.py"):
            assert (ROOT / path).is_file(), f"{lesson.name} has no {path}"


LESSONS = {path.stem[3:]: path.stem[:2] for path in (ROOT / "notebooks").glob("*.ipynb")}


def later(lesson: str, imports: Iterable[str]) -> list[str]:
    """What a lesson, or a widget of it, imports from lessons after it; 00 to 03 share the ground.

    What all widgets share comes before every lesson's widgets, and knows the ground.
    """
    own = LESSONS.get(lesson, "")
    known = {"minillm": max(own, "03"), "widgets": max(own, "03") if own else ""}
    return sorted(
        name
        for name in imports
        if LESSONS.get(room_of(name), "") > known.get(name.partition(".")[0], "99")
    )


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_lesson_imports_earlier_lessons_only(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imports = set(re.findall(r"^from ((?:minillm|widgets)[\w.]*) import", code, re.MULTILINE))
    assert imports
    assert later(path.stem[3:], imports) == []


@each_module
def test_a_widget_imports_earlier_widgets_only(path: Path) -> None:
    if path.is_relative_to(ROOT / "widgets"):
        assert later(room_of(module_name(path)), imported(path)) == []


def test_an_arrow_between_lessons_that_is_planted_is_seen() -> None:
    assert later("jacobi", {"widgets.lookahead.mask", "widgets.common.chart"}) == [
        "widgets.lookahead.mask"
    ]
    assert later("common", {"widgets.transformer"}) == ["widgets.transformer"]
    assert later("common", {"minillm.decoding", "minillm.jacobi"}) == ["minillm.jacobi"]
    assert later("speculative", {"minillm.lookahead", "minillm.decoding", "torch"}) == [
        "minillm.lookahead"
    ]
    assert later("decoding", {"minillm.kv_cache", "minillm.measure", "widgets.kv_cache"}) == []


@each_module
def test_a_module_says_what_it_is_and_offers(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree)
    offered: list[str] | None = None
    defined: set[str] = set()
    for_types = [child for node in tree.body if isinstance(node, ast.If) for child in node.body]
    for node in [*tree.body, *for_types]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name for target in targets for name in ast.walk(target)]
            defined |= {name.id for name in names if isinstance(name, ast.Name)}
            if "__all__" in ast.unparse(targets[0]):
                offered = ast.literal_eval(node.value)
        elif isinstance(node, ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
    if path.name == "__init__.py" and len(tree.body) == 1:
        return  # a docstring only
    assert offered is not None, "no __all__"
    assert set(offered) <= defined
    assert len(set(offered)) == len(offered)


# What the packages never do


@each_module
def test_every_system_can_import_it(path: Path) -> None:
    assert not imported(path, outside_functions) & POSIX


@each_module
def test_a_child_python_does_not_look_for_modules_in_the_current_folder(path: Path) -> None:
    tree = parsed(path)
    for words in (node.elts for node in ast.walk(tree) if isinstance(node, ast.List)):
        if words and ast.unparse(words[0]) == "sys.executable":
            assert ast.unparse(words[1]) == "'-P'"


@each_module
def test_weights_are_never_pickles(path: Path) -> None:
    assert not roots(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    used = {ast.unparse(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    assert not used & {"torch.load", "torch.save", "np.load", "numpy.load"}


@each_module
def test_no_global_randomness(path: Path) -> None:
    used = {ast.unparse(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    assert not used & {"torch.manual_seed", "torch.seed", "np.random.seed", "random.seed"}
    assert "random" not in roots(path)


@each_module
def test_tensors_are_kept_by_ours_and_not_by_functools(path: Path) -> None:
    """What functools caches is handed out itself: to be changed, or stuck in inference mode."""
    if "torch" in roots(path):
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                decorators = {ast.unparse(each).split("(")[0] for each in node.decorator_list}
                assert not decorators & {"cache", "lru_cache"}, node.name


@each_module
def test_no_widget_is_an_accordion_which_colab_breaks(path: Path) -> None:
    names = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    names |= {name.rpartition(".")[2] for name in imported(path)}
    assert "Accordion" not in names


def test_no_program_of_a_widget_needs_a_lab_extension() -> None:
    needs = re.compile(r"""^\s*(import\s|export .* from)|import\(["'`]|@jupyter|jupyterapp""", re.M)
    programs = sorted((ROOT / "widgets").rglob("*.js"))
    assert programs
    assert [path.name for path in programs if needs.search(path.read_text("utf-8"))] == []
    dependencies = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "labextension" not in dependencies


def test_nothing_is_fetched_from_a_cdn() -> None:
    cdn = re.compile(
        r"(https?:)?//[\w.-]*(cdn|unpkg|jsdelivr|esm\.sh|skypack|googleapis|gstatic|typekit)",
        re.IGNORECASE,
    )
    shown = [
        path
        for folder in ("minillm", "widgets", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".js", ".css", ".html", ".svg", ".ipynb"}
    ]
    assert len(shown) > len(MODULES)
    for path in shown:
        found = cdn.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path} mentions {found and found[0]}"


# These tests


@pytest.mark.parametrize(("ci", "errors"), [("true", {"filterwarnings": "error"}), ("", {})])
def test_a_warning_is_an_error_in_ci_only(
    ci: str, errors: dict[str, str], pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: dict[str, str] = {}
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    monkeypatch.setenv("CI", ci)
    conftest.pytest_configure(SimpleNamespace(addinivalue_line=added.__setitem__))
    assert added == errors


def test_warnings_are_treated_as_the_conftest_says() -> None:
    with warnings.catch_warnings(record=True) as seen:
        try:
            warnings.warn("of a dependency's next version", FutureWarning, stacklevel=1)
        except FutureWarning:
            assert os.environ.get("CI")
        else:
            assert len(seen) == 1
            assert not os.environ.get("CI")


# Shipped weights


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.name)
def test_a_shipped_model_is_complete_and_in_16_bits(path: Path) -> None:
    names = {file.name for file in path.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert not {file.suffix for file in path.iterdir()} & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
    with safe_open(path / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"F16", "BF16"}  # noqa: SIM118


def test_the_weights_are_small_enough_to_ship() -> None:
    family = ["stories", "stories-m", "stories-s", "stories-xs"]
    assert [path.name for path in WEIGHTS] == sorted([*family, "stories-draft"])
    files = (ROOT / "minillm" / "weights").rglob("*")
    assert sum(file.stat().st_size for file in files if file.is_file()) < 40e6
