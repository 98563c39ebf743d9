"""GGUF: what was written is read back by transformers' own reader, and computed by llama.cpp."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, normalizers, pre_tokenizers

import compressit
from compressit import anatomy, plan, recipe
from compressit import model as models
from compressit.errors import ExitCode, MissingExtra, RecipeError, StepError
from compressit.exports import _ggml, _gguf_tokens, gguf
from compressit.model.quantized import Quantized, Scheme
from compressit.progress import Silent
from compressit.runtimes import load
from compressit.serving.bench import Wanted, bench
from compressit.serving.finished import opened
from tests import tiny
from tests.anatomy.conftest import cut_differently
from tests.conftest import story, story_tokenizer

pytest.importorskip("gguf")
FAMILIES = ["llama", "mistral", "qwen2", "qwen3"]
llamacpp = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")


@pytest.fixture
def teller(storyteller):
    """A Llama that has learned stories."""
    return models.load(storyteller / "model", "text-generation")


def written(model, folder, weights="float32"):
    about = _gguf_tokens.described(model.processor, model.module.get_input_embeddings().num_embeddings)
    folder.mkdir(exist_ok=True)
    return _ggml.write(model.module, model.quantized, weights, about, folder / "model.gguf")


def again(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32).eval()


def gridded(model, scheme, seed=0):
    """Put every matrix of the blocks on a grid of numbers drawn at random, as a step would."""
    draw = torch.Generator().manual_seed(seed)
    state = model.module.state_dict()
    for name, matrix in model.matrices().items():
        rows, inputs = matrix.of(state).shape
        groups, most = inputs // (scheme.group_size or inputs), 1 << (scheme.bits - 1)
        whole = torch.randint(-most, most, (rows, inputs), generator=draw).to(torch.int8)
        scale = torch.rand(rows, groups, generator=draw) * 0.02 + 0.001
        model.quantized[name] = Quantized(scheme, whole, scale)
        matrix.of(state).copy_(model.quantized[name].weight_OI)


@pytest.fixture
def of_family(storyteller, tmp_path):
    """Build a model whose norms and biases are not what they begin as, and give the folder of its float32 file."""

    def made(family, **more):
        settings = tiny.build(family, vocab_size=336, max_position_embeddings=64, sliding_window=None, **more).config
        module = transformers.AutoModelForCausalLM.from_config(settings)
        with torch.no_grad():
            for tensor in module.parameters():
                tensor.add_(0.1 * torch.randn(tensor.shape))
        module.save_pretrained(tmp_path / "model")
        transformers.AutoTokenizer.from_pretrained(storyteller / "model").save_pretrained(tmp_path / "model")
        model = models.load(tmp_path / "model", "text-generation")
        written(model, tmp_path / "file")
        ids = torch.randint(3, 300, (2, 30))
        with torch.no_grad():
            return tmp_path / "file", ids, model.module(ids).logits

    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_the_same_model_back(family, of_family):
    # That reader takes the heads of a Qwen3 to be 128 wide.
    folder, ids, wanted = of_family(family, **({"head_dim": 128} if family == "qwen3" else {}))
    with torch.no_grad():
        torch.testing.assert_close(again(folder)(ids).logits, wanted)


ROPES = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}  # fmt: skip


@llamacpp
@pytest.mark.parametrize(
    ("family", "more"),
    [
        *((family, {}) for family in FAMILIES),
        ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
        ("qwen2", {"tie_word_embeddings": True}),
        *(("llama", {"rope_parameters": {"rope_theta": 100.0, **rope}}) for rope in ROPES.values()),
    ],
    ids=[*FAMILIES, "biases", "tied", *ROPES],
)
def test_llama_cpp_computes_the_same_model(family, more, of_family):
    folder, ids, wanted = of_family(family, **more)
    batch = {"input_ids": ids.numpy(), "attention_mask": np.ones_like(ids.numpy())}
    said = load("llamacpp").open(folder, "text-generation", "cpu")(batch)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(said, wanted.numpy(), atol=1e-4)


def test_the_tokenizer_is_read_back_too(teller, tmp_path):
    written(teller, tmp_path / "file")
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "file", gguf_file="model.gguf")
    for text in story(5, 9).split("\n\n"):
        assert found(text)["input_ids"][-20:] == teller.processor(text)["input_ids"][-20:]


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        (Scheme(4, 32), "Q4_0"),
        (Scheme(3, 32), "Q4_0"),
        (Scheme(5, 32), "Q5_0"),
        (Scheme(8, 32), "Q8_0"),
        (Scheme(6), "Q8_0"),
    ],
)
def test_a_steps_rounding_is_kept(scheme, kind, teller, tmp_path):
    gridded(teller, scheme)
    assert written(teller, tmp_path / "file", "float16")["kept_rounding"] == len(teller.quantized)
    state = again(tmp_path / "file").state_dict()
    for name, grid in teller.quantized.items():
        # Scales have 16 bits there, and whole numbers are just the same.
        scale = grid.scale_OG.half().float().repeat_interleave(grid.whole_OI.shape[1] // grid.scale_OG.shape[1], 1)
        assert torch.equal(state[f"{name}.weight"], grid.whole_OI * scale)
    facts = load("llamacpp").inspect if find_spec("llama_cpp") else None
    if facts:
        assert facts(tmp_path / "file").dtypes[kind.lower()] == sum(
            g.whole_OI.numel() for g in teller.quantized.values()
        )


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        (Scheme(4, 32, symmetric=False), "place for the zero points of model.layers.0.self_attn.q_proj"),
        (Scheme(8, activations="dynamic"), "place for the rounded activations of"),
        (Scheme(4, 16), "share a scale in llama.cpp's blocks, and of .* 16 do"),
    ],
)
def test_rounding_that_has_no_place_is_refused(scheme, said, teller, tmp_path):
    gridded(teller, scheme)
    with pytest.raises(StepError, match=said):
        written(teller, tmp_path / "file")


@pytest.mark.parametrize(("weights", "error"), [("float16", 1e-3), ("bfloat16", 1e-2), ("q8_0", 0.02), ("q4_0", 0.2)])
def test_other_matrices_are_stored_as_asked(weights, error, teller, tmp_path):
    written(teller, tmp_path / "file", weights)
    state = again(tmp_path / "file").state_dict()
    for name, tensor in teller.module.state_dict().items():
        assert (state[name] - tensor).norm() <= error * tensor.norm()


def test_families_and_shapes_that_llama_cpp_lacks_are_refused(teller, storyteller, tmp_path):
    teller.module.config.model_type = "gpt2"
    with pytest.raises(StepError, match="models of the type gpt2 are not written"):
        written(teller, tmp_path / "file")
    other = models.load(storyteller / "model", "text-generation")
    block = other.module.model.layers[1].mlp
    for name in ("gate_proj", "up_proj"):
        getattr(block, name).weight = torch.nn.Parameter(getattr(block, name).weight[:-8])
    with pytest.raises(
        StepError, match=r"blocks of one shape, and model.layers.0.mlp.gate_proj.weight is 128 x 64, .* 120 x 64"
    ):
        written(other, tmp_path / "file")


def tokenizer(normalizer=None, split=None):
    """Make a byte-level BPE of the stories with something else about it."""
    made = story_tokenizer(story(20, 1))
    if normalizer is not None:
        made.backend_tokenizer.normalizer = normalizer
    if split is not None:
        made.backend_tokenizer.pre_tokenizer = split
    return made


@pytest.mark.parametrize(
    "made",
    [
        {"normalizer": normalizers.Lowercase()},
        {"split": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"split": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(use_regex=False)])},
    ],
    ids=["lowers", "prefix", "splits"],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(made):
    with pytest.raises(StepError, match=r"not known what llama.cpp calls a tokenizer like this"):
        _gguf_tokens.described(tokenizer(**made), 400)


def planned(storyteller, folder, steps, model="model"):
    (folder / "r.yaml").write_text(
        f"name: laptop\ntask: text-generation\nmodel: {storyteller}/{model}\n"
        f"dataset: {{path: {storyteller}, calibration: train.txt, evaluation: test.txt, max_length: 64}}\n"
        f"steps: [{steps}]\n"
        "exports: [{export: gguf}]\nmetrics: [perplexity, agreement, latency, size]\n"
        "targets: [{metric: perplexity, max_ratio: 1.2}]\n"
    )
    return plan.plan(recipe.load(folder / "r.yaml"), elsewhere=True)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("{step: quantize_rtn, bits: 4, group_size: 16}", "of model.layers.0.mlp.down_proj 16 do"),
        ("{step: quantize_gptq, bits: 4, group_size: 32, symmetric: false}", "no place for the zero points of"),
        ("{step: quantize_rtn, activations: int8}", "no place for the rounded activations of"),
        ("{step: quantize_float, format: fp8}", "no place for the fp8 weights of"),
        ("quantize_cache", "gguf can't hold the scales of keys and values"),
        ("cast, {step: prune_ffn, sparsity: 0.25}", "step 2 .prune_ffn. lets them differ"),
        ("{step: prune_structured, sparsity: 0.25}", "step 1 .prune_structured. lets them differ"),
        ("{step: factor_svd, sparsity: 0.2}", "gguf can't hold the layers that are two"),
    ],
)
def test_steps_whose_work_has_no_place_are_refused_before_any_work(steps, said, storyteller, tmp_path):
    with pytest.raises(RecipeError, match=rf"(?s)r.yaml:6:\d+: error: .*{said}"):
        planned(storyteller, tmp_path, steps)


def test_what_has_a_place_is_planned(storyteller, tmp_path):
    steps = "{step: prune_ffn, sparsity: 0.25, uniform: true}, {step: quantize_gptq, group_size: 32, average_bits: 5}"
    assert planned(storyteller, tmp_path, steps).steps[1].after is not None


def test_families_that_are_not_written_are_refused_before_any_work(tmp_path, storyteller):
    tiny.build("gpt2").save_pretrained(storyteller / "other")
    with pytest.raises(RecipeError, match=r"r.yaml:6:\d+: error: gguf: models of the type gpt2 are not written"):
        planned(storyteller, tmp_path, "cast", "other")


def test_a_model_whose_blocks_differ_is_refused_before_any_work(tmp_path, storyteller):
    model = models.load(storyteller / "model", "text-generation")
    cut_differently(model.module)
    anatomy.settle(model.module)
    model.save(storyteller / "uneven")
    with pytest.raises(RecipeError, match=r"r.yaml:6:\d+: error: gguf: llama.cpp takes blocks of one shape, and model"):
        planned(storyteller, tmp_path, "cast", "uneven")


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_what_is_missing_is_named(teller, tmp_path):
    with pytest.raises(MissingExtra, match=r"llama-cpp-python is not installed[^$]*compressit\[gguf\]"):
        gguf.run(teller, gguf.Config(export="gguf"), tmp_path, [])


@llamacpp
def test_llama_cpp_computes_what_the_checkpoint_computes(teller, tmp_path):
    written(teller, tmp_path / "file")
    session = load("llamacpp").open(tmp_path / "file", "text-generation", "cpu")
    ids = torch.randint(3, 300, (3, 40), generator=torch.Generator().manual_seed(0))
    there = torch.ones_like(ids)
    there[1, 7:] = there[2, :9] = 0
    with torch.no_grad():
        wanted = teller.module(input_ids=ids, attention_mask=there).logits.numpy()
    batch = {"input_ids": ids.numpy(), "attention_mask": there.numpy()}
    said, live = session(batch), there.numpy().astype(bool)
    assert np.abs(said - wanted)[live].max() < 1e-4
    last = session({**batch, "logits_to_keep": np.array([39])})
    assert last.shape == (3, 1, 320)
    assert np.abs(last[[0, 2], 0] - wanted[[0, 2], 39]).max() < 1e-4
    # Of other shapes again, and of the first once more.
    assert session({name: array[:1, :3] for name, array in batch.items()}).shape == (1, 3, 320)
    np.testing.assert_array_equal(session(batch), said)


HARD = "A  fox's 1234 caf\u00e9, \u4f60\u597d \U0001f642\r\n\t\n  don't</s> <s>x  "


@llamacpp
@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_llama_cpp_reads_the_same_tokens(kind, teller, tmp_path):
    splits = {name: regex for regex, name in _gguf_tokens.SPLITS.items()}
    ahead = [pre_tokenizers.Digits(individual_digits=True)] if kind == "smollm" else []
    if kind in splits:
        ahead = [pre_tokenizers.Split(Regex(splits[kind]), "isolated")]
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind not in splits)
    teller.processor = tokenizer(split=pre_tokenizers.Sequence([*ahead, bytes_]) if ahead else bytes_)
    assert _gguf_tokens.described(teller.processor, 320)["tokenizer_pre"] == kind
    written(teller, tmp_path / "file")
    read = load("llamacpp").tokenizer(tmp_path / "file")
    for text in (HARD, *story(5, 9).split("\n\n")):
        _gguf_tokens.check(teller.processor, text, read)
    with pytest.raises(
        StepError, match="reads a text as other tokens than the tokenizer: '<s>b' and '<s>a' from token 1"
    ):
        _gguf_tokens.check(teller.processor, "b", lambda text: read("a"))


@pytest.fixture(scope="module")
def served(storyteller, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    planned(storyteller, folder, "{step: quantize_gptq, bits: 4, group_size: 32}")
    return folder / "out", compressit.apply(folder / "r.yaml", folder / "out")


@llamacpp
def test_llama_cpp_serves_what_gptq_chose(served):
    """The file is judged on llama.cpp, next to the original there, and loses what the checkpoint loses."""
    folder, report = served
    assert report.exit_code is ExitCode.OK
    checkpoint, file = ({r.metric: r for r in artifact.readings} for artifact in report.artifacts)
    assert file["perplexity"].value == pytest.approx(checkpoint["perplexity"].value, rel=0.02)
    assert file["agreement"].value > 0.9
    assert file["size"].value < checkpoint["size"].value
    assert file["latency"].ratio is not None
    made = report.artifacts[1]
    assert (made.runtime, made.notes["kept_rounding"]) == ("llamacpp", 28)
    assert made.dtypes == {"q4_0": 147456, "float16": 40960, "float32": 576}
    assert {"gguf", "llama-cpp-python"} <= report.provenance.versions.keys()
    with np.load(folder / "examples" / "gguf.npz") as said:
        assert len(said["nll"])


@llamacpp
def test_the_file_is_verified_and_timed_like_any_other(served, cli):
    folder, _ = served
    done = cli("verify", folder)
    assert done.returncode == 0, done.stderr
    found = bench([opened(folder)], Wanted(batches=(1,), lengths=(8,), seconds=0.1), Silent())
    assert [(one.name, one.runtime) for one in found.timed][1:] == [("checkpoint", "torch"), ("gguf", "llamacpp")]
    assert all(speed.p50 > 0 for speed in found.cells[0].speeds)
