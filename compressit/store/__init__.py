"""Every byte that reaches the disk: results, complete and checked or not there at all, and what can be made again.

A result is written into a sibling `.NAME.tmp-HOST-PID-START/`; then modes, fsync, SHA-256, the manifest last, and one
rename. A top-level name that starts with a dot is scratch and is not published. Whatever a killed run leaves behind
can't be taken for a result, and the next run on the same host removes it. Behind a URL there is no rename; see
`uploading` for what holds there.
"""

from __future__ import annotations

from compressit.store.claims import Left, forget, left, unfinished, wait
from compressit.store.files import nearest, stamps
from compressit.store.manifests import MANIFEST, amend, check, content_key, manifest, verify
from compressit.store.places import home
from compressit.store.publishing import check_file, check_target, discard, drafted, held, staged, sweep_all, written
from compressit.store.remote import Remote, address, child, place
from compressit.store.uploading import empty, fetched, glimpsed

__all__ = [
    "MANIFEST", "Left", "Remote", "address", "amend", "check", "check_file", "check_target", "child", "content_key",
    "discard", "drafted", "empty", "fetched", "forget", "glimpsed", "held", "home", "left", "manifest", "nearest",
    "place", "staged", "stamps", "sweep_all", "unfinished", "verify", "wait", "written",
]  # fmt: skip
