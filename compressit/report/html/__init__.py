"""The report as one page that needs nothing else: no script, no request, dark or light, on a phone or on paper."""

from __future__ import annotations

from compressit.report.html.page import page, render

__all__ = ["page", "render"]
