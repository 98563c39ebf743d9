"""Event files for TensorBoard: curves, figures, the recipe as hyperparameters, and the report as text.

They go to a folder of their own below `tensorboard/` beside the result, so `tensorboard --logdir runs/tensorboard`
shows all runs together; TENSORBOARD_LOGGING_DIR names another folder for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressit import machine
from compressit.trackers import Opening


def ready() -> None:
    """Raise MissingExtra where tensorboard isn't installed."""
    machine.need({"tensorboard": "tensorboard"})


def open(run: Opening) -> _Sink:
    """Begin an event file."""
    root = os.environ.get("TENSORBOARD_LOGGING_DIR") or run.folder.parent / "tensorboard"
    return _Sink(run, Path(root) / f"{run.folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")


class _Sink:
    def __init__(self, run: Opening, folder: Path) -> None:
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True)
        self.place = str(folder)
        self._writer = EventFileWriter(str(folder))
        started = SessionStartInfo(group_name=run.name, start_time_secs=time.time())
        for name, value in run.parameters.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(started.hparams[name], kind, value)
        self._about(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=started))

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        self._add([{"tag": name, "simple_value": value} for name, value in values.items()], at)

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        self.scalars(figures, 0)
        self._text("facts", "\n".join(f"* {name}: {text}" for name, text in facts.items()))
        self._text("report", files["report.md"].read_text(encoding="utf-8"))
        Path(self.place, "report.html").write_bytes(files["report.html"].read_bytes())

    def close(self, succeeded: bool) -> None:
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
        ended = SessionEndInfo(status=status, end_time_secs=time.time())
        self._about(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=ended))
        self._writer.close()

    def _about(self, tag: str, content: Any) -> None:
        """Add what the page of hyperparameters reads."""
        from tensorboard.plugins.hparams import metadata

        about = metadata.create_summary_metadata(content)
        self._add([{"tag": tag, "metadata": about, "tensor": metadata.NULL_TENSOR}])

    def _text(self, tag: str, markdown: str) -> None:
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        about = create_summary_metadata(display_name="", description="")
        self._add([{"tag": tag, "metadata": about, "tensor": make_tensor_proto(markdown)}])

    def _add(self, values: list[dict[str, Any]], at: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(wall_time=time.time(), step=at, summary=summary))
        # Else a full disk would show at the end, or never.
        self._writer.flush()
