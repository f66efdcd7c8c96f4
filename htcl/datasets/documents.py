"""What is written for people beside the tables: the configuration and SOURCE.md."""

from __future__ import annotations

from typing import Any

import yaml

from htcl.datasets.dataset import DataSet, Source
from htcl.datasets.parquet import LOG_FOLDER
from htcl.datasets.summary import Summary, describe
from htcl.datasets.writing import CATALOG_FILE

_HEAD = """\
# {title}, as `htcl datasets prepare {name}` made it; licence and citation: SOURCE.md.
# Paths start at this folder; the audio stays where it was.
"""

_NOTE = """\
# {title}

Made by `htcl datasets prepare {name} --from {source}{subset}`.

{lines}

Settings that go with it:

```yaml
{settings}```
"""


def config_text(dataset: DataSet, source: Source) -> str:
    """htcl.yaml: a configuration over a prepared folder that has catalog, audio and log."""
    return _HEAD.format(title=dataset.title, name=dataset.name) + _settings(dataset, source)


def source_text(summary: Summary, source: Source) -> str:
    """SOURCE.md: licence, citation, what came out, and the settings of a configuration over it."""
    subset = f" --subset {source.subset}" if source.subset else ""
    lines = "\n".join(f"- {line}" for line in describe(summary).splitlines())
    return _NOTE.format(
        title=summary.dataset.title, name=summary.dataset.name, source=source.folder, subset=subset, lines=lines,
        settings=_settings(summary.dataset, source),
    )  # fmt: skip


def _settings(dataset: DataSet, source: Source) -> str:
    """The configuration as YAML, as far as the data set goes."""
    values: dict[str, Any] = {"preset": "base", "name": dataset.name, "workspace": "workspace"}
    if dataset.audio_root:
        values["catalog"] = {"path": CATALOG_FILE, "audio_root": str(dataset.audio_root(source))}
    if dataset.positive:
        positive = {kind: dict(rule) for kind, rule in dataset.positive.items()}
        values["interactions"] = {"path": LOG_FOLDER, "positive": positive}
    if dataset.text_fields:
        values["model"] = {"text_fields": list(dataset.text_fields)}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
