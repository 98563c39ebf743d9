"""A model folder from a stranger: whatever is wrong with it is found before its weights are read, and nothing runs."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from compressit import model as models
from compressit.errors import IntegrityError, RetryableError, StepError, UnsafeError
from compressit.intake import header
from compressit.intake.settings import MAX_DEPTH

TASK = "text-classification"


def config(**changes):
    """Change config.json."""

    def harm(folder):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return harm


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def cut(count):
    """Take bytes off the end of the weights."""

    def harm(folder):
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[: file.stat().st_size - count])

    return harm


def longer(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")


def tensors(*names):
    """Put a safetensors file of these entries, of a byte each, in place of the weights."""

    def harm(folder):
        raw(folder / "model.safetensors", {name: of(index) for index, name in enumerate(names)})

    return harm


def of(index, **more):
    return {"dtype": "U8", "shape": [1], "data_offsets": [index, index + 1], **more}


def raw(file, head, data=None):
    """Write a safetensors file with any header."""
    written = head if isinstance(head, bytes) else json.dumps(head).encode()
    count = len(head) if isinstance(head, dict) else 0
    file.write_bytes(struct.pack("<Q", len(written)) + written + (b"\0" * count if data is None else data))


def sharded(**changes):
    """Split the weights in two shards with an index, and change what the index says."""

    def harm(folder):
        from safetensors.torch import load_file, save_file

        held = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(held)
        shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for shard, some in shards.items():
            save_file({name: held[name] for name in some}, folder / shard, metadata={"format": "pt"})
        table = {name: shard for shard, some in shards.items() for name in some}
        index = {"metadata": {}, "weight_map": {**table, **changes.get("table", {})}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        changes.get("then", lambda folder: None)(folder)

    return harm


def extra(folder):
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00003-of-00003.safetensors")


def twice(folder):
    file, more = folder / "model.safetensors.index.json", '"bert.x": "a.safetensors", "bert.x": "b.safetensors", '
    file.write_text(file.read_text().replace('"weight_map": {', f'"weight_map": {{{more}'))


def link(name, target):
    def harm(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return harm


def deep(levels):
    return '{"a": ' * levels + "1" + "}" * levels


POSITION = "bert.embeddings.position_embeddings.weight"
CODE = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "someone/else--evil.Model"}
HARMS = {
    # 5: truncated, empty, longer
    "weights cut short": (cut(9), IntegrityError, r"model\.safetensors has [\d,]+ bytes, [\d,]+ expected"),
    "weights cut in the header": (cut(157_000), IntegrityError, "are its header alone"),
    "weights of no length": (lambda f: (f / "model.safetensors").write_bytes(b""), IntegrityError, "it has 0 bytes"),
    "weights that go on": (longer, IntegrityError, "expected"),
    "weights that are a folder": (lambda f: [(f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()],
                                  IntegrityError, "it is no file"),
    # 7: shards
    "shard missing": (sharded(then=lambda f: (f / "model-00002-of-00002.safetensors").unlink()),
                      IntegrityError, r"lacks model-00002-of-00002\.safetensors"),
    "shard unknown": (sharded(then=extra),
                                 IntegrityError, r"holds model-00003-of-00003\.safetensors, which .* doesn't"),
    "index of other files": (sharded(table={"bert.more": "model-00001-of-00002.safetensors"}),
                             IntegrityError, r"not of these files, which lack bert\.more"),
    "index missing": (sharded(then=lambda f: (f / "model.safetensors.index.json").unlink()),
                                 IntegrityError, "says what lies where"),
    "index without a table": (sharded(then=text("model.safetensors.index.json", "{}")),
                                 IntegrityError, "no weight_map"),
    "index that is cut": (sharded(then=text("model.safetensors.index.json", '{"a')), IntegrityError, "can't be read"),
    "index that is deep": (sharded(then=text("model.safetensors.index.json", deep(10_000))),
                                 IntegrityError, "can't be read"),
    "shard elsewhere": (sharded(table={POSITION: "../other/model.safetensors"}), UnsafeError, "no file beside it"),
    "shard of the system": (sharded(table={POSITION: "/etc/model.safetensors"}), UnsafeError, "no file beside it"),
    "shard by a backslash": (sharded(table={POSITION: "..\\model.safetensors"}), UnsafeError, "no file beside it"),
    "shard that is a pickle": (sharded(table={POSITION: "pytorch_model.bin"}), UnsafeError, "no file beside it"),
    "shard that is a number": (sharded(table={POSITION: 5}), UnsafeError, "no file beside it"),
    "shard twice": (sharded(then=twice), UnsafeError, "twice"),
    # 8: names of tensors
    "tensor elsewhere": (tensors("../../x"), UnsafeError, "no name that a model gives"),
    "tensor of the system": (tensors("/etc/passwd"), UnsafeError, "no name that a model gives"),
    "tensor that steers the terminal": (tensors("a\x1b[31m"), UnsafeError, "no name that a model gives"),
    "tensor without a name": (tensors(""), UnsafeError, "no name that a model gives"),
    # 9: pickles
    "pickles only": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
                                 UnsafeError, "pickled weights only"),
    # 10: code
    "code for an unknown type": (config(model_type="evil", auto_map=CODE), UnsafeError, "auto_map"),
    "code for a part": (config(text_config={"model_type": "evil", "auto_map": CODE}), UnsafeError, "auto_map"),
    "trust in the config": (config(trust_remote_code=True), UnsafeError, "only the command line"),
    "trust in a part": (config(vision_config={"trust_remote_code": True}), UnsafeError, "only the command line"),
    "trust in the tokenizer": (text("tokenizer_config.json", '{"trust_remote_code": true}'),
                                 UnsafeError, "command line"),
    "pipelines": (config(custom_pipelines={"x": {"impl": "evil.P"}}), UnsafeError, "custom_pipelines"),
    "attention of the hub": (config(attn_implementation="evil/kernel:f"), UnsafeError, "may be fetched"),
    "attention within": (config(_attn_implementation_internal="evil/kernel"), UnsafeError, "may be fetched"),
    "attention by part": (config(_attn_implementation={"text_config": "evil/kernel"}), UnsafeError, "may be fetched"),
    "attention that falls back on the hub": (config(_attn_implementation="flash_attention_2"),
                                 UnsafeError, "may be fetched"),
    "experts of the hub": (config(experts_implementation="evil/kernel"), UnsafeError, "may be fetched"),
    "quantized by kernels": (config(quantization_config={"quant_method": "mxfp4"}), UnsafeError, "quantization_config"),
    "quantized by a word": (config(quantization_config="evil"), UnsafeError, "quantization_config"),
    "backbone of the hub": (config(backbone="evil/x", use_pretrained_backbone=True), UnsafeError, "from elsewhere"),
    "adapter": (text("adapter_config.json", '{"base_model_name_or_path": "evil/base"}'), UnsafeError, "another model"),
    "network of ours that is none": (config(model_type="compressit-evil"), StepError, "doesn't have"),
    # 11: figures
    "huge vocabulary": (config(vocab_size=10**15), UnsafeError, "vocab_size is 1000000000000000"),
    "huge vocabulary, a fraction": (config(vocab_size=1e15), UnsafeError, "vocab_size"),
    "vocabulary without end": (config(vocab_size=float("inf")), UnsafeError, "vocab_size is inf"),
    "vocabulary that is no number": (config(vocab_size=float("nan")), UnsafeError, "vocab_size is nan"),
    "fewer blocks than none": (config(num_hidden_layers=-1), UnsafeError, "num_hidden_layers is -1"),
    "more blocks than tensors": (config(num_hidden_layers=3000), UnsafeError, "its weights are 73 tensors"),
    "more labels than rows": (config(num_labels=90_000, id2label=None), UnsafeError, "num_labels is 90000"),
    "wide": (config(intermediate_size=2**30), UnsafeError, "numbers, and the weights beside it are"),
    "long": (config(max_position_embeddings=10**9), UnsafeError, "numbers, and the weights beside it are"),
    "size that is text": (config(hidden_size="x"), StepError, "can't be opened"),
    "size that is a list": (config(hidden_size=[32]), StepError, "can't be opened"),
    "part that is a list": (text("config.json", '{"text_config": []}'), StepError, "can't be"),
    "digits": (text("config.json", '{"vocab_size": ' + "9" * 5000 + "}"), StepError, "not a transformers model"),
    "large config": (text("config.json", '{"a": "' + "x" * 17_000_000 + '"}'), UnsafeError, "bytes"),
    "deep config": (text("config.json", deep(10_000)), UnsafeError, "levels deep"),
    "rather deep config": (text("config.json", deep(MAX_DEPTH + 1)), UnsafeError, "levels deep"),
    "deep tokenizer settings": (text("tokenizer_config.json", deep(10_000)), UnsafeError, "levels deep"),
    "large index": (text("model.safetensors.index.json", " " * 17_000_000), UnsafeError, "bytes"),
    "config that waits": (lambda f: [(f / "config.json").unlink(), os.mkfifo(f / "config.json")],
                          StepError, "no config.json"),
    "act": (config(hidden_act="os.system"), StepError, "can't be opened"),
    "type of numbers": (config(dtype="load"), StepError, "can't be opened"),
    # 17: links that lead out
    "weights elsewhere": (link("model.safetensors", "/etc/hostname"), UnsafeError, "leads out of the model's folder"),
    "vocabulary elsewhere": (link("vocab.txt", "/etc/passwd"), UnsafeError, "leads out of the model's folder"),
    "folder elsewhere": (link("more", "/etc"), UnsafeError, "leads out of the model's folder"),
    "link to itself": (link("vocab.txt", "vocab.txt"), UnsafeError, "leads out of the model's folder"),
}  # fmt: skip


def meet(folder):
    """Do with a model's folder what a run does."""
    models.load(models.fetch(str(folder)), TASK)


@pytest.mark.parametrize("harm", HARMS)
def test_it_is_refused_with_its_place(harm, folder):
    do, kind, said = HARMS[harm]
    do(folder)
    with pytest.raises(kind, match=said) as told:
        meet(folder)
    assert type(told.value) is kind
    assert str(folder) in told.value.message
    assert len(str(told.value).splitlines()) <= 2
    assert len(told.value.message) < 700


ALL = """
import resource, shutil, sys
from pathlib import Path
from compressit.errors import CompressitError
from tests.hostile.test_model_folder import HARMS, meet
pristine, place = map(Path, sys.argv[1:])
meet(pristine)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, passed = peak(), []
for number, (do, kind, said) in enumerate(HARMS.values()):
    folder = shutil.copytree(pristine, place / str(number))
    do(folder)
    try:
        meet(folder)
        passed.append(number)
    except CompressitError:
        pass
print(len(HARMS), passed, peak() - before)
"""


def test_none_of_them_takes_time_or_memory(pristine, tmp_path):
    """The largest file above has 17 MB; refusing it may cost a few times as much, and nothing costs more."""
    done = subprocess.run([sys.executable, "-c", ALL, pristine, tmp_path], capture_output=True, text=True, timeout=120,
                          check=True, cwd=Path(__file__).parents[2])  # fmt: skip
    count, passed, megabytes = done.stdout.strip().splitlines()[-1].split(" ", 2)
    assert (int(count), passed) == (len(HARMS), "[]")
    assert int(megabytes) < 200


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"a": of(0), "b": of(0)}, "overlap"),
        ({"a": of(0), "b": of(2)}, "holes"),
        ({"a": {**of(0), "shape": [2]}}, "not what its shape takes"),
        ({"a": {**of(0), "shape": [2**60, 2**60]}}, "doesn't say what each tensor is"),
        ({"a": {**of(0), "shape": [-1]}}, "doesn't say what each tensor is"),
        ({"a": {**of(0), "shape": [True]}}, "doesn't say what each tensor is"),
        ({"a": {**of(0), "data_offsets": [1, 0]}}, "doesn't say what each tensor is"),
        ({"a": {**of(0), "data_offsets": "01"}}, "doesn't say what each tensor is"),
        ({"a": {**of(0), "dtype": ["U8"]}}, "doesn't say what each tensor is"),
        ({"a": 5}, "doesn't say what each tensor is"),
        (b"[]", "doesn't say what each tensor is"),
        (b'{"__metadata__": 5}', "doesn't say what each tensor is"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": ' * 10_000, "not a safetensors file"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a safetensors file"),
        (b"\xff\xfe", "not a safetensors file"),
        (b"\xef\xbb\xbf{}", "not a safetensors file"),
        ("{}".encode("utf-16"), "not a safetensors file"),
        (b'{"__metadata__": {"format": NaN}}', "doesn't say what each tensor is"),
    ],
)
def test_a_header_that_lies_is_an_error_that_names_the_file(head, said, tmp_path):
    raw(tmp_path / "model.safetensors", head)
    with pytest.raises(IntegrityError, match=said) as told:
        header(tmp_path / "model.safetensors")
    assert "model.safetensors" in told.value.message


SPRUNG = """
import os, pickle, sys
class Trap:
    def __reduce__(self):
        return os.mkdir, (sys.argv[1] + "/sprung",)
for name in sys.argv[2:]:
    pickle.dump(Trap(), open(name, "wb"))
"""


def test_pickles_beside_the_weights_are_never_opened(folder):
    names = ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "vocab.pkl"]
    subprocess.run([sys.executable, "-c", SPRUNG, folder, *(folder / name for name in names)], check=True)
    meet(folder)
    assert not (folder / "sprung").exists()


def test_what_is_harmless_is_let_pass(folder):
    """Classes of transformers' own are used where it has them; its own ways to compute may be named."""
    config(auto_map=CODE, attn_implementation="eager", trust_remote_code=False, quantization_config=None)(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    own = {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}, "model_max_length": 1e30}
    file.write_text(json.dumps({**settings, **own}))
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder / 'sprung')!r})")
    (folder / "inner.txt").symlink_to("config.json")
    meet(folder)
    assert not (folder / "sprung").exists()


def test_a_tokenizers_own_code_is_never_run(folder):
    """Where the model is of a known type, transformers takes the tokenizer that it has for it."""
    file = folder / "tokenizer_config.json"
    own = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder / 'sprung')!r})")
    with contextlib.suppress(UnsafeError):
        meet(folder)
    assert not (folder / "sprung").exists()


@pytest.fixture
def hub(pristine, tmp_path, monkeypatch):
    """A model in the hub's cache, in shards: links to blobs beside the snapshots."""
    repository = tmp_path / "hub" / "models--someone--bert"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    whole = shutil.copytree(pristine, repository / "blobs")
    sharded()(whole)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir()
    for file in whole.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_the_hubs_cache_opens(hub):
    models.load(models.fetch("someone/bert"), TASK)
    assert models.here("someone/bert") == hub


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "*.safetensors"])
def test_a_download_that_was_cut_off_is_no_model_yet(hub, name):
    for file in hub.glob(name):
        file.unlink()
    with pytest.raises(RetryableError, match="only in part") as told:
        models.fetch("someone/bert")
    assert told.value.exit_code == 75
    assert models.here("someone/bert") is None


def test_a_blob_that_was_cut_short_is_named(hub):
    file = hub / "model-00002-of-00002.safetensors"
    file.resolve().write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"model-00002-of-00002\.safetensors has .* expected"):
        models.fetch("someone/bert")


def test_a_snapshot_that_links_elsewhere_is_refused(hub):
    (hub / "config.json").unlink()
    (hub / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeError, match="leads out"):
        models.fetch("someone/bert")


@pytest.mark.parametrize(
    ("harm", "code"),
    [("weights cut short", 6), ("huge vocabulary", 7), ("tensor that steers the terminal", 7),
     ("part that is a list", 5)],
)  # fmt: skip
def test_a_plan_says_so_in_a_line_or_two(harm, code, folder, recipe, ends):
    HARMS[harm][0](folder)
    ended = ends("plan", recipe())
    assert (ended.code, ended.out) == (code, "")
    assert str(folder) in ended.said
    assert len(ended.said.splitlines()) <= 3
    assert ended.megabytes < 250


@pytest.mark.parametrize("role", ["model: ./model", "teacher: ./model"])
def test_a_run_refuses_it_before_any_work_whatever_it_is_for(role, folder, recipe, ends, pristine, tmp_path):
    config(model_type="evil", auto_map=CODE)(folder)
    step = "{step: student, model: ./model}" if role.startswith("model") else "{step: distill, teacher: ./model}"
    ended = ends("apply", recipe(pristine, step), "-o", tmp_path / "out", "-q")
    assert ended.code == 7
    assert "auto_map" in ended.said
    assert "--trust-remote-code" in ended.said
    assert not (tmp_path / "out").exists()
