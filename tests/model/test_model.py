"""Where a model may come from, and what is refused."""

import json
import shutil

import pytest
import torch

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import IntegrityError, RecipeError, RetryableError, StepError, UnsafeError
from tests.conftest import linears

TASK = "text-classification"


@pytest.fixture
def copy(sentiment, tmp_path):
    return shutil.copytree(sentiment / "model", tmp_path / "model")


def test_a_model_in_the_hubs_cache_opens_offline_by_its_id(sentiment, tmp_path, monkeypatch):
    """The cache's own layout: refs name a commit, snapshots hold links to blobs."""
    home = tmp_path / "hub"
    repository = home / "models--someone--tiny-bert"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in (sentiment / "model").iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    folder = models.fetch("someone/tiny-bert")
    assert folder.name == commit
    assert models.load(folder, TASK).module.config.num_hidden_layers == 4
    assert weights.read(folder).blocks() == 4
    assert models.fetch("someone/tiny-bert", commit) == folder
    with pytest.raises(RetryableError, match="not in the hub's cache"):
        models.fetch("someone/other-bert")


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(UnsafeError, match="pickled weights only"):
        models.fetch(str(copy))
    with pytest.raises(UnsafeError, match="pickled weights only"):
        models.load(copy, TASK)


def test_a_model_that_needs_its_own_code_is_refused_without_the_flag(copy):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Config"}
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises((UnsafeError, StepError)):
        models.load(copy, TASK)


def test_an_untrained_head_is_an_error(tmp_path, sentiment):
    from transformers import BertModel

    BertModel.from_pretrained(sentiment / "model").save_pretrained(tmp_path)
    shutil.copy(sentiment / "model" / "tokenizer.json", tmp_path)
    with pytest.raises(StepError, match=r"no trained weights .* classifier"):
        models.load(tmp_path, TASK)


def break_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: break_config(folder, hidden_size="x"), "can't be opened"),
        (lambda folder: break_config(folder, intermediate_size=48), "other shapes than its config.json says"),
        (lambda folder: break_config(folder, model_type="martian"), "can't be opened"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a transformers model"),
    ],
)
def test_a_broken_model_is_an_error_that_names_it(copy, harm, said):
    harm(copy)
    with pytest.raises(StepError, match=said):
        models.load(copy, TASK)


def test_a_model_without_its_tokenizer_is_an_error(copy):
    for file in copy.glob("*token*"):
        file.unlink()
    with pytest.raises(StepError, match="holds no tokenizer"):
        models.load(copy, TASK)


@pytest.mark.parametrize("text", ["[]", "", "{"])
def test_a_broken_config_is_an_error_of_the_plan(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(StepError, match="not a transformers model"):
        weights.read(copy)


def test_a_tokenizer_learns_its_models_limit(copy):
    file = copy / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["model_max_length"]
    file.write_text(json.dumps(config))
    assert models.load(copy, TASK).processor.model_max_length == 64


def test_what_is_not_a_model_says_so(tmp_path):
    with pytest.raises(StepError, match=r"holds no config\.json"):
        models.load(tmp_path, TASK)
    with pytest.raises(StepError, match="neither a local folder nor a model on the hub"):
        models.fetch("no such id / at all")


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, (10).to_bytes(8, "little") + b"not json!!"])
def test_a_broken_safetensors_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not a safetensors file"):
        weights.header(tmp_path / "model.safetensors")


def test_the_table_of_weights_needs_no_torch_and_agrees_with_it(sentiment):
    table, module = weights.read(sentiment / "model"), models.load(sentiment / "model", TASK).module
    assert table.parameters == module.num_parameters()
    assert table.bytes == 4 * table.parameters
    assert {name: tensor.shape for name, tensor in table.linears().items() if table.inside_blocks(name)} == {
        name: tuple(part.weight.shape) for name, part in linears(models.load(sentiment / "model", TASK)).items()
    }


def test_patterns_pick_layers_and_one_that_matches_nothing_is_an_error(sentiment):
    model = models.load(sentiment / "model", TASK)
    assert len(linears(model)) == 24
    assert [*linears(model, include=["classifier"])] == ["classifier"]
    assert all("attention" not in name for name in linears(model, exclude=["*attention*"]))
    with pytest.raises(RecipeError, match=r"'\*\.querry' matches no layer"):
        linears(model, include=["*.querry"])
    with pytest.raises(RecipeError, match="leave no layer"):
        linears(model, include=["classifier"], exclude=["class*"])


def test_an_unknown_architecture_says_how_to_add_it():
    with pytest.raises(StepError, match="anatomy of model type 'martian'"):
        anatomy.family("martian")
