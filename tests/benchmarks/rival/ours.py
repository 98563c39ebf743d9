"""Our side of the comparison: one step on a checkpoint and token ids; a JSON line as `llm_compressor.py` prints it."""

import argparse
import json
import resource
import shutil
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import transformers

from compressit import model as models
from compressit.progress import Silent
from compressit.steps import StepContext, _walking, load

STEPS = {"rtn": "quantize_rtn", "gptq": "quantize_gptq", "sparsegpt": "prune_sparsegpt", "wanda": "prune_wanda",
         "magnitude": "prune_magnitude"}  # fmt: skip
BATCH = 4
"""Windows in a batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--method", choices=STEPS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int)
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--sparsity", type=float)
    parser.add_argument("--pattern")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, help="change the first so many blocks only, and save nothing")
    parser.add_argument("--curve", type=Path, help="write the resident set, a line of seconds and MiB every second")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.utils.logging.set_verbosity_error()
    # What opening a model and the step would import, so that the peak can be told from it.
    import_module("transformers.models.llama.modeling_llama")
    import_module("accelerate")
    import_module("compressed_tensors")
    imported = rss()
    ids = torch.from_numpy(np.load(given.ids).astype(np.int64))
    # As `samples` does: the first window alone, for each block runs it once more to learn what it does.
    batches = [{"input_ids": some} for some in (ids[:1], *ids[1:].split(BATCH))]
    # Both tools see the very same ids: no text is read or cut here.
    _walking.samples = lambda *unused: batches
    amounts = {"pattern": given.pattern} if given.pattern else {"sparsity": given.sparsity}
    if given.method in ("rtn", "gptq"):
        amounts = {"bits": given.bits, "group_size": given.group_size}
    if given.blocks:
        amounts["include"] = tuple(f"model.layers.{index}.*" for index in range(given.blocks))
    if given.curve:
        threading.Thread(target=follow, args=(given.curve,), daemon=True).start()
    step = load(STEPS[given.method])
    config = step.Config(
        step=STEPS[given.method], **{key: value for key, value in amounts.items() if value is not None}
    )
    scratch = Path(tempfile.mkdtemp(dir=given.out.parent))
    try:
        begun = time.perf_counter()
        model = models.load(given.model, "text-generation", scratch=scratch / "weights")
        loaded = time.perf_counter()
        notes = step.run(model, config, StepContext(None, [], None, "cpu", 0, Silent(), scratch / "step"))
        stepped = time.perf_counter()
        shutil.rmtree(given.out, ignore_errors=True)
        if not given.blocks:
            model.save(given.out)
        saved = time.perf_counter()
    finally:
        shutil.rmtree(scratch)
    size = sum(file.stat().st_size for file in given.out.glob("*.safetensors"))
    print(
        json.dumps(
            {
                "method": given.method,
                "settings": config.model_dump(mode="json", exclude_defaults=True),
                "load_seconds": round(loaded - begun, 2),
                "seconds": round(stepped - loaded, 2),
                "save_seconds": round(saved - stepped, 2),
                "peak_mib": rss(),
                "imports_mib": imported,
                "output_mib": size >> 20,
                "notes": dict(notes),
            }
        )
    )


def follow(file: Path) -> None:
    """Note the resident set once a second."""
    begun = time.perf_counter()
    with file.open("w") as stream:
        while True:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"{time.perf_counter() - begun:.0f} {pages * resource.getpagesize() >> 20}", file=stream, flush=True)
            time.sleep(1)


def rss() -> int:
    """Largest resident set so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
