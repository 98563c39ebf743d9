"""Run a GGUF file on llama.cpp."""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import machine, tasks
from compressit.errors import StepError
from compressit.runtimes import Batch, Facts, Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "model.gguf"
LIBRARY = "llama.cpp"
OPENING = """\
import llama_cpp

model = llama_cpp.Llama(f"{folder}/model.gguf")
"""
LAYERS = 1 << 16
"""More than any model has: all go to the GPU."""
STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
"""Takes what llama.cpp would write to the terminal."""


def place(device: str) -> str:
    """Run on the GPU only where this llama.cpp was built for one; what pip builds by itself is not."""
    return device if _library().llama_supports_gpu_offload() else "cpu"


def open(folder: Path, task: str, device: str, trust_remote_code: bool = False, scratch: Path | None = None) -> Session:
    """Open model.gguf, with as many threads as PyTorch takes; it holds no code, and llama.cpp maps it into memory.

    A file in float32 is computed so; any other as llama.cpp does by itself, which keeps keys and values in 16 bits.

    Raises:
        StepError: it can't be opened.
    """
    import numpy as np
    import torch

    lib = _library()
    model = _model(folder, LAYERS if device == "cuda" else 0)
    words = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    exact, threads, read = _exact(folder), torch.get_num_threads(), tasks.reader(task, folder)
    rooms: dict[tuple[int, int], Any] = {}

    def room(rows: int, length: int) -> Any:
        """Make room for so many texts of such a length, or take what was made for the last ones."""
        if (rows, length) not in rooms:
            while rooms:
                lib.llama_free(rooms.popitem()[1])
            wanted = lib.llama_context_default_params()
            wanted.n_ctx = wanted.n_batch = rows * length
            wanted.n_seq_max = rows
            wanted.n_threads = wanted.n_threads_batch = threads
            if exact:
                wanted.type_k = wanted.type_v = lib.GGML_TYPE_F32
                wanted.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
            found = lib.llama_init_from_model(model, wanted)
            if not found:
                raise StepError(
                    f"llama.cpp has no room for {rows} texts of {length} tokens",
                    hint="a smaller batch_size or max_length needs less",
                )
            rooms[rows, length] = found
        return rooms[rows, length]

    def run(batch: Batch) -> Any:
        there = batch["attention_mask"].astype(bool)
        rows, length = there.shape
        asked = np.zeros(length, bool)
        asked[batch.get("logits_to_keep", slice(None))] = True
        own = room(rows, -(-length // 256) * 256)
        lib.llama_memory_clear(lib.llama_get_memory(own), False)
        if failed := lib.llama_decode(own, _given(lib, batch["input_ids"], there, there & asked)):
            raise StepError(f"llama.cpp can't compute {rows} texts of {length} tokens (it says {failed})")
        answered = there[:, asked]
        said = np.ctypeslib.as_array(lib.llama_get_logits(own), shape=(int(answered.sum()), words))
        logits = np.zeros((*answered.shape, words), np.float32)
        logits[answered] = said
        inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
        return read({"logits": torch.from_numpy(logits)}, inputs).numpy()

    def close() -> None:
        for each in rooms.values():
            lib.llama_free(each)
        lib.llama_model_free(model)

    weakref.finalize(run, close)
    return run


def tokenizer(folder: Path) -> Callable[[str], list[int]]:
    """Give what turns a text into tokens, as llama.cpp does by the file, special tokens' names included."""
    lib = _library()
    model = _model(folder, 0, vocab_only=True)
    vocab = lib.llama_model_get_vocab(model)

    def run(text: str) -> list[int]:
        written = text.encode()
        room = (lib.llama_token * (len(written) + 8))()
        count = lib.llama_tokenize(vocab, written, len(written), room, len(room), True, True)
        return list(room[:count])

    weakref.finalize(run, lib.llama_model_free, model)
    return run


def inspect(folder: Path) -> Facts:
    """Read the tensors of model.gguf."""
    ready()
    import gguf

    dtypes: Counter[str] = Counter()
    nonzero = 0
    for tensor in gguf.GGUFReader(str(folder / FILE)).tensors:
        if tensor.name == "rope_freqs.weight":
            # No weights: they follow from config.json.
            continue
        kind = tensor.tensor_type
        dtypes[STORED.get(kind.name, kind.name.lower())] += int(tensor.n_elements)
        nonzero += int((gguf.quants.dequantize(tensor.data, kind) != 0).sum())
    return Facts((folder / FILE).stat().st_size, dtypes.total(), nonzero, dict(dtypes))


def ready() -> None:
    """Look whether llama.cpp is installed, and gguf, which reads its files.

    Raises:
        MissingExtra: one of them is not.
    """
    machine.need(dict.fromkeys(("gguf", "llama_cpp"), "gguf"))


def _given(lib: Any, ids: NDArray[Any], there: NDArray[Any], asked: NDArray[Any]) -> Any:
    """Lay out the tokens that are there, one text after the other, and ask for the logits of some: each (B, L)."""
    import numpy as np

    texts = there.nonzero()[0].astype(np.int32)
    arrays = {
        "token": ids[there].astype(np.int32),
        "pos": (there.cumsum(1) - 1)[there].astype(np.int32),
        "n_seq_id": np.ones(len(texts), np.int32),
        # A list of texts for each token.
        "seq_id": (texts.ctypes.data + texts.itemsize * np.arange(len(texts))).astype(np.uintp),
        "logits": asked[there].astype(np.int8),
    }
    kinds = dict(lib.llama_batch._fields_)
    pointers = {name: array.ctypes.data_as(kinds[name]) for name, array in arrays.items()}
    found = lib.llama_batch(n_tokens=len(texts), **pointers)
    # Pointers don't hold what they point to.
    found.held = texts, arrays
    return found


def _exact(folder: Path) -> bool:
    """Say whether the file holds nothing but numbers of 32 bits."""
    import gguf

    field = gguf.GGUFReader(str(folder / FILE)).get_field("general.file_type")
    return field is not None and field.contents() == gguf.LlamaFileType.ALL_F32


def _model(folder: Path, layers: int, *, vocab_only: bool = False) -> Any:
    lib = _library()
    wanted = lib.llama_model_default_params()
    wanted.n_gpu_layers, wanted.vocab_only = layers, vocab_only
    found = lib.llama_model_load_from_file(str(folder / FILE).encode(), wanted)
    if not found:
        raise StepError(f"llama.cpp can't open {folder / FILE}", hint="a newer llama-cpp-python may know it")
    return found


def _library() -> Any:
    ready()
    import llama_cpp

    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp
