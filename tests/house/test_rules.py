"""The rules of the house: who may know whom, what may be named how, and what stays out of a quick command."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import compressit

ROOT = Path(compressit.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))

# Imports point down: a room may know those on lower floors, and itself.
FLOORS = [
    {"cli"},
    {"batch"},
    {"compare", "search"},
    {"runner", "serving", "tracking", "engines", "jobs"},
    {"cache"},
    {"plan", "report", "store", "measure", "demo", "provenance", "estimates"},
    {"rules", "recipe"},
    {"steps", "exports"},
    {"trackers", "runtimes", "metrics", "tasks", "data", "model", "checkpoint", "weights", "anatomy"},
    {"outputs"},
    {"algorithms", "errors", "registry", "spec", "progress", "machine", "sharing", "intake", "ranks"},
]
# Neighbours on one floor that are layered among themselves, lower one last.
MAY = {
    ("engines", "jobs"),
    ("plan", "demo"), ("plan", "estimates"), ("demo", "store"), ("provenance", "store"), ("rules", "recipe"),
    ("exports", "steps"), ("estimates", "measure"),
    ("checkpoint", "anatomy"), ("checkpoint", "weights"), ("weights", "anatomy"), ("model", "anatomy"),
    ("model", "tasks"), ("model", "checkpoint"), ("model", "weights"), ("data", "tasks"),
    ("data", "anatomy"), ("algorithms", "errors"), ("intake", "errors"), ("ranks", "errors"), ("machine", "errors"),
    ("data", "model"), ("runtimes", "model"), ("runtimes", "checkpoint"), ("runtimes", "tasks"),
    ("metrics", "runtimes"),
}  # fmt: skip


def room(module):
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree):
    """Give every import, and whether it runs when the file is imported."""
    late = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    typed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module] if node.module != "compressit" else [f"compressit.{alias.name}" for alias in node.names]
            )
        for name in names:
            yield name, node not in late and node not in typed, node in typed


def test_imports_point_down():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    wrong = []
    for file in FILES:
        own = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in floor, f"{own} has no floor in the plan"
        for name, _, typed in imports(ast.parse(file.read_text())):
            other = room(name)
            if other == "__version__":
                continue
            if not name.startswith("compressit.") or other == own or typed:
                continue
            if floor[other] < floor[own] or (floor[other] == floor[own] and (own, other) not in MAY):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "sklearn", "scipy", "onnx", "onnxruntime",
         "openvino", "nncf", "compressed_tensors", "huggingface_hub", "safetensors", "PIL", "rich", "tokenizers",
         "onnx_ir", "optuna", "seqeval", "jinja2", "pyarrow", "tensorboard", "mlflow", "wandb", "trackio",
         "ray", "rouge_score", "sacrebleu", "fsspec", "peft", "gguf", "llama_cpp", "soundfile",
         "soxr", "lm_eval"}  # fmt: skip


def test_heavy_libraries_are_imported_late():
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in FILES
        for name, now, _ in imports(ast.parse(file.read_text()))
        if now and name.split(".")[0] in HEAVY
    ]
    assert found == []


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "recipes/quickstart.yaml"], ["steps", "list"],
                                       ["plan", "recipes/quickstart.yaml"]], ids=" ".join)  # fmt: skip
def test_a_quick_command_imports_nothing_heavy(arguments, tmp_path):
    heavy = HEAVY - ({"rich"} if arguments[0] in ("steps", "plan") else set())
    code = (
        "import sys\nsys.argv = ['compressit', *sys.argv[1:]]\n"
        "from compressit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', sorted({{name.split('.')[0] for name in sys.modules}} & {heavy!r}))"
    )
    # Where a step may be kept, the plan reads data to tell.
    nothing_kept = {**os.environ, "COMPRESSIT_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        check=True,
        env=nothing_kept,
    )
    assert "HEAVY []" in done.stdout


def test_only_the_command_line_prints_or_exits():
    for file in FILES:
        if file.relative_to(ROOT).parts[0] == "cli":
            continue
        text = file.read_text()
        assert not re.search(r"(?<![\w.])print\(|sys\.exit|sys\.stdout|sys\.stderr", text), file


def test_names():
    for path in [*ROOT.rglob("*"), *(ROOT.parent / "tests").rglob("*")]:
        assert not re.fullmatch(r"(utils?|helpers?|common|misc)(\.py)?", path.name), path
    top = {path.name for path in ROOT.parent.iterdir() if not path.name.startswith(".")}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "compressit", "recipes", "tests"}
    assert top - allowed <= {"runs", "build", "dist", "compressit.egg-info"}


def test_no_file_outgrows_a_readers_patience():
    for file in FILES:
        assert len(file.read_text().splitlines()) <= 400, file


def test_nothing_is_swallowed_or_silenced():
    for file in FILES:
        text = file.read_text()
        # A class whose base mypy can't see is the one thing it may be told to pass over.
        assert not re.search(r"# type: ignore(?!\[misc\])|# noqa", text), file
        assert not re.search(r"except\s*:|except BaseException:\s*\n\s*pass|TODO|FIXME|XXX", text), file


ROOMS = {
    "steps": {"Config", "run"},
    "exports": {"Config", "run"},
    "metrics": {"Config", "KIND", "BETTER", "UNIT", "measure"},
    "tasks": {"AUTO_CLASS", "PROCESSOR_CLASS", "ROLES", "OUTPUT", "METRICS", "prepare", "collate"},
    "runtimes": {"open", "inspect"},
    "trackers": {"ready", "open"},
    "engines": {"open"},
    "anatomy.families": {"FAMILY"},
}


@pytest.mark.parametrize("name", ROOMS)
def test_every_file_of_a_room_holds_what_the_room_asks_for(name):
    from importlib import import_module

    package = import_module(f"compressit.{name}")
    for entry in package.names():
        module = package.load(entry)
        assert {*dir(module)} >= ROOMS[name], entry
        assert (module.__doc__ or "").strip(), entry
        for field, info in getattr(getattr(module, "Config", None), "model_fields", {}).items():
            assert info.description, f"{entry}.{field} has no documentation"


def test_an_installed_package_may_add_a_step(tmp_path):
    """Through the entry-point group of the room's name, loaded only when a recipe names it."""
    (tmp_path / "extra.py").write_text(
        '"""Do nothing, slowly."""\nfrom compressit.steps import StepConfig\n'
        'class Config(StepConfig):\n    """Fields."""\n'
        "def run(model, config, context):\n    return {}\n"
    )
    info = tmp_path / "extra-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[compressit.steps]\nidle = extra\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from compressit import steps\nassert 'idle' in steps.names()\nassert 'extra' not in sys.modules\n"
        "assert steps.load('idle').__doc__ == 'Do nothing, slowly.'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
