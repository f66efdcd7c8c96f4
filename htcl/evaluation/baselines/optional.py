"""Libraries that only the report card needs."""

from __future__ import annotations

import importlib
from typing import Any

from htcl.errors import HTCLError


def needed(module: str) -> Any:
    """Import a module of the extra `report-card`.

    Raises:
        HTCLError: with the way out, when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        way_out = "`pip install -e '.[report-card]'` in the checkout"
        raise HTCLError(f"the report card needs the package {error.name}: {way_out}") from None
