"""Labels, rows and folders named by a stranger: text wherever they are shown, and a command or markup nowhere."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

BAD = "</td><script>alert(1)</script>|`x`\n::error::pwned\x1b[31m"
GOOD = '=cmd|"/c calc"!A1<img src=x onerror=alert(1)>[a](javascript:alert(1))'


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.seen = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen |= {tag, *(name for name, _ in attributes if name.startswith("on"))}


@pytest.fixture
def result(pristine, tmp_path, ends):
    """A run on a model with such labels in a folder of such a name, whose data has such labels and texts."""
    folder = shutil.copytree(pristine, tmp_path / "a|b <img src=x onerror=alert(1)>")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {0: BAD, 1: GOOD}, "label2id": {BAD: 0, GOOD: 1}}
    (folder / "config.json").write_text(json.dumps(config))
    rows = [{"text": f"{BAD} good film {GOOD}", "label": [BAD, GOOD][number % 2]} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "r", "task": "text-classification", "model": str(folder),
        "steps": [{"step": "prune_magnitude", "sparsity": 0.5}],
        "dataset": {"path": ".", "evaluation": "rows.jsonl"}, "metrics": ["accuracy", "f1", "size"],
        "targets": [{"metric": "size", "max": "1 kB"}, {"metric": "accuracy", "max_drop": 0.1}],
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    ended = ends("apply", tmp_path / "r.yaml", "-o", tmp_path / "out", env={"GITHUB_ACTIONS": "true"})
    assert ended.code == 3, ended.said
    return tmp_path / "out", ended


def test_they_stay_text(result):
    folder, ended = result
    page = (folder / "report.html").read_text()
    assert not Tags(page).seen & {"script", "img", "iframe", "a", "onerror", "onload"}
    for name in ("report.md", "checkpoint/README.md"):
        shown = (folder / name).read_text().partition("```yaml")[0]
        assert not re.search(r"(?<!\\)<(script|img|/td)", shown)
        assert not re.search(r"^::", shown, re.MULTILINE)
        for table in re.findall(r"(?:^\|.*\n)+", shown, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert not re.search(r"^::", ended.out + ended.said, re.MULTILINE)
    for file in folder.rglob("*"):
        assert not file.is_file() or file.suffix not in (".md", ".html") or "\x1b" not in file.read_text()
