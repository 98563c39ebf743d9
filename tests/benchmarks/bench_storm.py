"""A storm of kills: one recipe killed at random moments until it ends, held against a run that nobody disturbs.

    python tests/benchmarks/bench_storm.py [--recipe FILE] [--kills 50] [--seed 0] [--work FOLDER]

Prints a JSON line: the same bytes or not, and the wall time of all attempts over that of the undisturbed run, start-ups
(from the start of a process to the first thing that it measures) left out of both. Takes three times the recipe's time.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """\
name: storm
task: text-classification
model: demo:stdlib
dataset: {path: demo:stdlib, train: "train[:3000]", evaluation: "test[:500]"}
steps:
  - {step: drop_layers, keep: 4}
  - {step: distill, epochs: 60, learning_rate: 5.0e-4}
  - {step: prune_magnitude, sparsity: 0.3}
  - {step: finetune, epochs: 60, learning_rate: 1.0e-4}
exports: [{export: onnx, weights: int8}]
metrics: [accuracy, size]
"""
BEGUN = "measure the original"


class Run:
    """A process, and when it had started up."""

    def __init__(self, recipe: Path, output: Path, cache: Path) -> None:
        command = [sys.executable, "-m", "compressit", "apply", recipe, "-o", output]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "COMPRESSIT_CACHE": str(cache)}, start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if BEGUN in line:
                break
        self.started = time.monotonic()

    def end(self, after: float | None) -> bool:
        """Kill it so many seconds after it had started up, or let it end; tell whether it ended."""
        try:
            self.said += (self.process.communicate(timeout=after)[1] or "").splitlines(keepends=True)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.took = time.monotonic() - self.started
            return False
        self.took = time.monotonic() - self.started
        if self.process.returncode:
            raise SystemExit("".join(self.said))
        return True


def test_killed_at_five_moments(tmp_path):
    """What `make bench` runs of it; the whole storm is a command of its own."""
    command = [sys.executable, __file__, "--kills", "5", "--work", tmp_path / "storm"]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"\n{said}")
    assert said["same_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp(prefix="storm-"))
    work.mkdir(parents=True, exist_ok=True)
    recipe = asked.recipe or work / "storm.yaml"
    if asked.recipe is None:
        recipe.write_text(RECIPE)
    draw = random.Random(asked.seed)
    train = "from compressit import demo, progress\ndemo.folder('demo:stdlib', progress.Silent())"
    environment = {**os.environ, "COMPRESSIT_CACHE": str(work / "calm")}
    subprocess.run([sys.executable, "-c", train], check=True, env=environment)
    shutil.copytree(work / "calm" / "demos", work / "storm" / "demos")
    calm = Run(recipe, work / "calm-out", work / "calm")
    calm.end(None)
    took, starts, kills, ended = [], [calm.started - calm.begun], 0, False
    while not ended:
        run = Run(recipe, work / "storm-out", work / "storm")
        ended = run.end(draw.uniform(0, 2 * calm.took / asked.kills) if kills < asked.kills else None)
        kills += not ended
        took.append(run.took)
        starts.append(run.started - run.begun)
        print(f"{kills} kills, {sum(took):.0f} s", file=sys.stderr, flush=True)
    files = sorted(path.relative_to(work / "calm-out") for path in (work / "calm-out").rglob("*.safetensors"))
    files += sorted(path.relative_to(work / "calm-out") for path in (work / "calm-out").rglob("*.onnx"))
    same = all((work / "calm-out" / file).read_bytes() == (work / "storm-out" / file).read_bytes() for file in files)
    print(json.dumps({
        "kills": kills, "same_bytes": same, "files": [str(file) for file in files], "calm_s": round(calm.took, 1),
        "storm_s": round(sum(took), 1), "ratio": round(sum(took) / calm.took, 3),
        "start_up_s": round(statistics.median(starts), 1), "attempts": len(took),
        "left_in_unfinished": len([*(work / "storm" / "unfinished").iterdir()]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
