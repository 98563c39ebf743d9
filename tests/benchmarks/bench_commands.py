"""What `make bench` runs of the benchmarks that are commands: those that need nothing from elsewhere, and those named.

BENCH_RECIPES and BENCH_RUNTIMES hold arguments of bench_recipes.py and bench_runtimes.py, for models and data that are
not in this repository; README.md, beside this file, has those of its tables.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BUILT_IN = [
    "bench_recipes.py recipes/quickstart.yaml --set dataset.calibration=train[:300] --length 40 --runs {runs}",
    "bench_channels.py accuracy --seeds 0",
    "bench_channels.py latency",
    "bench_experts.py --seeds 0",
]
ASKED = [f"bench_{name}.py {os.environ[f'BENCH_{name.upper()}']}" for name in ("recipes", "runtimes")
         if os.environ.get(f"BENCH_{name.upper()}")]  # fmt: skip


@pytest.mark.parametrize("command", [*BUILT_IN, *ASKED], ids=lambda command: command.partition(" --")[0])
def test_a_table(command, tmp_path):
    file, *arguments = shlex.split(command)
    # Tests have one thread; here every runtime shall have what it takes by itself.
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {"PYTHONPATH": os.pathsep.join([os.getcwd(), env.get("PYTHONPATH", "")])}
    words = [each.replace("{runs}", str(tmp_path / "runs")) for each in arguments]
    subprocess.run([sys.executable, Path(__file__).with_name(file), *words], env=env, check=True)
