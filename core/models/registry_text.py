"""Writing registry entries and the choice of a set as TOML, without touching what a person wrote around them. Pure."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import SettingsError
from core.models.spec import ModelSet, ModelSpec


def registry_text(models: Sequence[ModelSpec], model_set: ModelSet | None) -> str:
    """Return entries for ``registry.toml``."""
    blocks = [_table("set", model_set.model_dump())] if model_set is not None else []
    for model in models:
        fields = model.model_dump(exclude_none=True)
        calibrations = fields.pop("calibration", ())
        blocks.append(_table("model", fields))
        blocks += [_table("model.calibration", calibration) for calibration in calibrations]
    return "".join(f"\n{block}" for block in blocks)


def _table(name: str, fields: Mapping[str, Any]) -> str:
    lines = [f"{key} = {toml_value(value)}" for key, value in fields.items()]
    return f"[[{name}]]\n" + "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Return a string, number, truth value, list or table as one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    return "[" + ", ".join(toml_value(inner) for inner in value) + "]"


TABLE = re.compile(r"^\s*\[")
MODELS_TABLE = re.compile(r"^\s*\[\s*models\s*\]\s*(#.*)?$")
SET_LINE = re.compile(r"^\s*set\s*=")


def with_model_set(text: str, name: str) -> str:
    """Return the text of ``sightline.toml`` with ``models.set`` changed and every other line kept.

    Raises:
        SettingsError: the text is no TOML, or says it in a way that can't be edited safely.
    """
    before = _parsed(text)
    lines = text.splitlines()
    line = f"set = {toml_value(name)}"
    start = next((i for i, existing in enumerate(lines) if MODELS_TABLE.match(existing)), None)
    if start is None:
        lines = [*lines, *([""] if lines else []), "[models]", line]
    else:
        end = next((i for i in range(start + 1, len(lines)) if TABLE.match(lines[i])), len(lines))
        at = next((i for i in range(start + 1, end) if SET_LINE.match(lines[i])), None)
        lines[start + 1 if at is None else at : start + 1 if at is None else at + 1] = [line]
    changed = "\n".join(lines) + "\n"
    expected = {**before, "models": {**before.get("models", {}), "set": name}}
    try:
        unharmed = _parsed(changed) == expected
    except SettingsError:
        unharmed = False
    if not unharmed:
        raise SettingsError(f"sightline.toml: can't change models.set safely; write it yourself: [models] with {line}")
    return changed


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise SettingsError(f"sightline.toml: {err}") from err
