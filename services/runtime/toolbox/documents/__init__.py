"""Tools for documents."""

from __future__ import annotations

from services.runtime.toolbox.documents import pdf_processor

MODULES = (pdf_processor,)
