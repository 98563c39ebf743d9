"""Every method and setting on one model, ours and llm-compressor's, judged on held-out ids: a JSON list and a table.

    python quality.py --model FOLDER --ids FOLDER --name code-llama --rival RIVAL_VENV/bin/python --out FOLDER

`--ids` holds NAME-seed0.npy, ... to calibrate on and NAME-heldout.npy. What is in `--out` already isn't made again, so
the same command goes on where it was stopped.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
BITS = [(f"{bits} bits", ["--bits", str(bits)]) for bits in (4, 3, 2)]
ZEROS = [
    ("50%", ["--sparsity", "0.5"]),
    ("60%", ["--sparsity", "0.6"]),
    ("2:4", ["--pattern", "2:4", "--sparsity", "0.5"]),
]
CALIBRATED = {"gptq": BITS, "sparsegpt": ZEROS, "wanda": ZEROS}
DATA_FREE = {"rtn": BITS, "magnitude": ZEROS}
TOOLS = ("ours", "rival")
# Its `oneshot` of a magnitude modifier prunes nothing; this sends it the events of training, which it listens to.
NAMES = {("rival", "magnitude"): "magnitude-events"}


def compress(asked: argparse.Namespace, tool: str, method: str, setting: str, flags: list[str], seed: int | None):
    """One run of a tool, or what it left in an earlier one."""
    label = setting.replace(" ", "").replace("%", "").replace(":", "of")
    method_of_tool = NAMES.get((tool, method), method)
    folder = asked.out / f"{tool}-{asked.name}-{method}-{label}-{'any' if seed is None else seed}"
    note = folder.with_suffix(".json")
    if not note.exists():
        command = [sys.executable, HERE / "ours.py"] if tool == "ours" else [asked.rival, HERE / "llm_compressor.py"]
        command += ["--model", asked.model, "--out", folder, "--method", method_of_tool]
        command += ["--ids", asked.ids / f"{asked.name}-seed{seed or 0}.npy", "--group-size", str(asked.group_size)]
        command += [*flags, "--threads", str(asked.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        printed = [line for line in done.stdout.splitlines() if line.startswith("{")]
        lines = done.stderr.strip().splitlines()
        failed = next((line for line in reversed(lines) if "Error" in line), f"exit code {done.returncode}")
        note.write_text(printed[-1] if printed else json.dumps({"error": failed.strip()}))
        print(note.name, note.read_text(), file=sys.stderr, flush=True)
    ran = json.loads(note.read_text())
    record = {"tool": tool, "model": asked.name, "method": method, "setting": setting, "seed": seed}
    return record | {"folder": str(folder), "seconds": ran.get("seconds"), "error": ran.get("error")}


def judge(asked: argparse.Namespace, records: list[dict]) -> None:
    """Add what evaluate_loss.py says of each folder, remembering it beside the folder."""
    made = [record for record in records if not record["error"]]
    judged = {record["folder"]: Path(record["folder"] + ".loss.json") for record in made}
    fresh = [folder for folder, note in judged.items() if not note.exists()]
    if fresh:
        command = [sys.executable, HERE / "evaluate_loss.py", "--ids", asked.ids / f"{asked.name}-heldout.npy"]
        with subprocess.Popen([*command, asked.model, *fresh], stdout=subprocess.PIPE, text=True) as process:
            dense = json.loads(process.stdout.readline())
            for line in process.stdout:
                found = json.loads(line)
                judged[found["folder"]].write_text(json.dumps(found | {"dense_loss": dense["loss"]}))
        if process.returncode:
            raise SystemExit(process.returncode)
    for record in made:
        record.update(json.loads(judged[record["folder"]].read_text()))


def table(records: list[dict]) -> str:
    """A row for each method and setting: the increase of each seed, ours beside theirs."""
    head = "| method | setting | ours, by seed | mean | llm-compressor, by seed | mean |"
    lines = [head, "|---|---|---|---|---|---|"]
    for method, setting in dict.fromkeys((record["method"], record["setting"]) for record in records):
        cells = []
        for tool in TOOLS:
            same = [r for r in records if (r["tool"], r["method"], r["setting"]) == (tool, method, setting)]
            rises = [r["increase"] for r in same if not r["error"]]
            errors = " ".join(r["error"] for r in same if r["error"])
            cells += [", ".join(f"{rise:.4f}" for rise in rises) or errors or "-"]
            cells += [f"{statistics.mean(rises):.4f}" if rises else "-"]
        lines.append(f"| {method} | {setting} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--rival", required=True, help="the python of llm-compressor's virtual environment")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="a list that this model's records are put into")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time; their seconds then say little")
    parser.add_argument("--threads", type=int, default=2, help="threads of each run")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    runs = [(t, m, s, flags, None) for t in TOOLS for m, ways in DATA_FREE.items() for s, flags in ways]
    runs += [
        (t, m, s, flags, seed)
        for t, seed in itertools.product(TOOLS, asked.seeds)
        for m, ways in CALIBRATED.items()
        for s, flags in ways
    ]
    with ThreadPoolExecutor(asked.workers) as pool:
        records = list(pool.map(lambda run: compress(asked, *run), runs))
    judge(asked, records)
    if asked.json:
        kept = json.loads(asked.json.read_text()) if asked.json.exists() else []
        kept = [record for record in kept if record["model"] != asked.name] + records
        asked.json.write_text(json.dumps(kept, indent=1))
    print(table(records))


if __name__ == "__main__":
    main()
