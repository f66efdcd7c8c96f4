"""Configuration files: presets, overrides, and errors that name the key and the nearest valid one."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from htcl import storage
from htcl.config import InteractionsConfig, PipelineConfig, PositiveRule
from htcl.errors import HTCLError


def load_config(
    path: str | Path, overrides: list[str] | None = None, settings: dict[str, Any] | None = None
) -> PipelineConfig:
    """Read a YAML file, lay it over its `preset`, lay `settings` and `key.path=value` overrides over it and check it.

    A preset is a name (see `preset_names`) or the path of a YAML file; of several, each lies over those before it.
    Relative paths are taken from the folder of the file that is read.

    Raises:
        HTCLError: naming the file, the key, and the nearest valid key.
    """
    path = Path(path)
    values = _read_yaml(path)
    if "preset" in (settings or {}) or any(
        override.partition("=")[0].strip() == "preset" for override in overrides or []
    ):
        raise HTCLError("preset cannot be overridden; name it in the config file")
    presets = values.pop("preset", None) or []
    for preset in reversed(presets if isinstance(presets, list) else [presets]):
        values = _merge(_read_preset(str(preset), path.resolve().parent), values)
    values = _merge(values, settings or {})
    for override in overrides or []:
        values = _override(values, override)
    _anchor_paths(values, path.resolve().parent)
    return validate_config(values, str(path))


def validate_config(values: dict[str, Any], origin: str) -> PipelineConfig:
    """Check plain values against `PipelineConfig`; `origin` names them in errors."""
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        lines = "; ".join(_explain(problem) for problem in error.errors())
        raise HTCLError(f"{origin}: {lines}") from None


def save_config(config: PipelineConfig, path: Path) -> Path:
    """Write the resolved configuration as YAML, so that another process loads the same."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    storage.write_bytes(str(path), text.encode())  # two steps at once write the same file
    return path


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in (resources.files("htcl") / "presets").iterdir())


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise HTCLError(f"cannot read the config file {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise HTCLError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise HTCLError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise HTCLError(f"{path} holds no settings; it needs at least workspace, catalog and interactions")
    return values


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error: YAML would drop the first in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are all different."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_preset(name: str, folder: Path) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")):
        return _read_yaml(folder / Path(name).expanduser())
    if name not in preset_names():
        raise HTCLError(f"preset: there is no preset {name!r}{_nearest(name, preset_names())}")
    text = (resources.files("htcl") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text) or {}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        # What counts as positive and what is a label is replaced as a whole: merging would keep what nobody asked for.
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in ("positive", "labels")
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(values: dict[str, Any], text: str) -> dict[str, Any]:
    """Lay `section.key=value` over the values."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise HTCLError(f"override {text!r} is not of the form section.key=value")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise HTCLError(f"override {text!r}: {value!r} is not a YAML value; quote it") from None
    parts = key.strip().split(".")
    for part in reversed(parts):
        tree = {part: tree}
    if parts[:2] == ["interactions", "positive"] and len(parts) > 2:
        # One type is meant here, so the others stay.
        log = values.get("interactions")
        types = log.get("positive") if isinstance(log, dict) else None
        if not isinstance(types, dict):
            types = {name: rule.model_dump() for name, rule in _default_positive().items()}
        tree["interactions"]["positive"] = _merge(types, tree["interactions"]["positive"])
    return _merge(values, tree)


def _default_positive() -> dict[str, PositiveRule]:
    return dict(InteractionsConfig.model_fields["positive"].default)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute and `file://` URIs paths, in place; other URIs stay as they are."""
    places = [(values, "workspace")]
    places += [(values[s], k) for s, k in _PATH_KEYS if isinstance(values.get(s), dict)]
    encoder = values.get("model")
    # A bare name is one of the hub's; only what is spelled as a path is taken as one.
    if isinstance(encoder, dict) and str(encoder.get("text_encoder", "")).startswith(("./", "../", "~")):
        places.append((encoder, "text_encoder"))
    for section, key in places:
        value = section.get(key)
        if isinstance(value, str) and value and storage.is_local(value):
            section[key] = str((folder / storage.local_path(value).expanduser()).resolve())


_PATH_KEYS = [
    ("catalog", "path"),
    ("catalog", "audio_root"),
    ("interactions", "path"),
    ("training", "hostfile"),
    ("training", "tracking_folder"),
]


def _explain(problem: Any) -> str:
    """Turn one pydantic error into a phrase that names the key and the way out."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(location[-1], _keys_beside(location))}"
    if problem["type"] == "missing":
        return f"{key!r} is missing; it has no default"
    if problem["type"] in ("model_type", "dict_type"):
        return f"{key!r} needs settings below it, such as {{}} (got {problem['input']!r})"
    # pydantic gives the values of a Literal only as text: 'a', 'b' or 'c'.
    names = re.findall("'([^']+)'", problem["ctx"]["expected"]) if problem["type"] == "literal_error" else []
    if names and isinstance(problem["input"], str):
        return f"{key!r} cannot be {problem['input']!r}{_nearest(problem['input'], names)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":  # ours: it names the values itself
        return f"{key}: {message}" if key else message
    return f"{key!r}: {message} (got {problem['input']!r})"


def _keys_beside(location: list[str]) -> list[str]:
    model: type[BaseModel] = PipelineConfig
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return sorted(PositiveRule.model_fields) if "positive" in location else []
        model = annotation
    return sorted(model.model_fields) + (["preset"] if len(location) == 1 else [])


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; valid here: {', '.join(known)}"
