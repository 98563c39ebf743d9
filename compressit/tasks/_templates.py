"""Conversations written out by a model's chat template, which is a program: in a process of its own, within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from compressit.errors import DataError, UnsafeError

SECONDS, EACH = 20, 0.05
"""Of a processor, for all conversations, and for each of them besides; a template takes less than a thousandth."""
MEMORY = 4 * 2**30
"""Bytes of address space."""

CHILD = """
import json, sys
from transformers.utils.chat_template_utils import render_jinja_template
given = json.load(sys.__stdin__)
try:
    import resource
except ImportError:
    pass
else:
    resource.setrlimit(resource.RLIMIT_CPU, (given["seconds"], given["seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
texts, refused = [], None
try:
    for turns in given["conversations"]:
        made, _ = render_jinja_template(conversations=[turns], chat_template=given["template"], **given["tokens"])
        texts += made
except MemoryError:
    raise SystemExit(3)
except Exception as error:
    refused = " ".join(str(error).split())[:200]
json.dump({"texts": texts, "refused": refused}, sys.__stdout__)
"""


def written(processor: Any, conversations: Iterable[Any]) -> list[str]:
    """Write conversations out, each a list of {role, content}.

    Raises:
        DataError: the tokenizer has no chat template, or it refuses a conversation.
        UnsafeError: the template takes more time or memory than any that writes conversations.
    """
    if not getattr(processor, "chat_template", None):
        raise DataError("the model's tokenizer has no chat template for `messages`", hint="give rows of `text` instead")
    turns = [[{"role": turn["role"], "content": turn["content"]} for turn in messages] for messages in conversations]
    try:
        template = processor.get_chat_template()
    except ValueError as error:
        raise DataError(f"the chat template can't be told: {' '.join(str(error).split())[:200]}") from error
    seconds = round(SECONDS + EACH * len(turns))
    given = {
        "conversations": turns,
        "template": template,
        "tokens": processor.special_tokens_map,
        "seconds": seconds,
        "memory": MEMORY,
    }
    command = [sys.executable, "-c", CHILD]
    try:
        # Time that the processor doesn't spend is no sign of a bad template, but of a busy machine.
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=30 * seconds)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise UnsafeError(
            f"the chat template of {processor.name_or_path} takes more than {seconds} s or {MEMORY:,} bytes to write "
            f"{len(turns):,} conversations: it does something else",
            hint="take the template from where the model was first published, or give rows of `text` instead",
        )
    found = json.loads(done.stdout)
    if found["refused"] is not None:
        raise DataError(f"the chat template refuses a conversation: {found['refused']}")
    return list(found["texts"])
