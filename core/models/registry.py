"""Which models there are: the shipped registry and the user's, read from TOML; the only way from a model's name to its file."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import ModelError, NotFoundError
from core.models.spec import ModelSet, ModelSpec, PackSpec

SHIPPED_REGISTRY = Path(__file__).with_name("registry.toml")
WEIGHTS_DIR = Path(__file__).with_name("weights")
MODELS_FOLDER = "models"
"""Below the data directory: what was built or pulled on this machine, and the user's registry."""
USER_REGISTRY = "registry.toml"
HASH_CHUNK_BYTES = 1 << 20

Named = TypeVar("Named", ModelSpec, ModelSet, PackSpec)


class RegistryFile(BaseModel):
    """The content of one ``registry.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: tuple[ModelSet, ...] = ()
    model: tuple[ModelSpec, ...] = ()
    pack: tuple[PackSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All models, sets and packs by name. Thread rule: immutable; any thread."""

    models: dict[str, ModelSpec]
    sets: dict[str, ModelSet]
    packs: dict[str, PackSpec]
    folder: Path | None
    """Where built and pulled models lie; None = only the shipped ones."""

    @staticmethod
    def load(data_dir: Path | None) -> "Registry":
        """Read the shipped registry, then the user's, whose entries are added by name.

        Raises:
            ModelError: the user's registry is damaged, or renames what is shipped.
        """
        shipped = read_registry(SHIPPED_REGISTRY)
        folder = None if data_dir is None else data_dir / MODELS_FOLDER
        user_path = None if folder is None else folder / USER_REGISTRY
        user = read_registry(user_path) if user_path is not None and user_path.exists() else RegistryFile()
        return Registry(
            models=_merge(shipped.model, user.model, user_path),
            sets=_merge(shipped.set, user.set, user_path),
            packs=_merge(shipped.pack, user.pack, user_path),
            folder=folder,
        )

    def model(self, name: str) -> ModelSpec:
        """Return a model by name.

        Raises:
            NotFoundError: listing the known names.
        """
        return _find(self.models, name, "model")

    def model_set(self, name: str) -> ModelSet:
        """Return a set by name; ``DETECTOR+EMBEDDER`` makes one of two models.

        Raises:
            NotFoundError: a name is unknown.
            ModelError: a part is not a detector or not an embedder.
        """
        if "+" not in name:
            return _find(self.sets, name, "model set")
        detector, embedder = name.split("+", 1)
        for part, task in ((detector, "detector"), (embedder, "embedder")):
            if self.model(part).task != task:
                raise ModelError(f"model set {name}: {part} is a {self.model(part).task}, not a {task}; write DETECTOR+EMBEDDER")
        return ModelSet(name=name, detector=detector, embedder=embedder, note="Chosen by hand.")

    def locate(self, spec: ModelSpec) -> Path | None:
        """Return where a model's file should lie, or None when it can't be on this machine (no data directory)."""
        if spec.shipped:
            return WEIGHTS_DIR / spec.file
        return None if self.folder is None else self.folder / spec.file

    def installed(self, spec: ModelSpec) -> bool:
        """Return whether the model's file is there, unchecked."""
        path = self.locate(spec)
        return path is not None and path.is_file()

    def path(self, spec: ModelSpec) -> Path:
        """Return the model's file, after checking its sha256.

        Raises:
            ModelError: not installed, unreadable or damaged, and how to mend it.
        """
        path = self.locate(spec)
        if path is None or not path.is_file():
            raise ModelError(f"model {spec.name}: not on this machine; {how_to_get(spec)}")
        try:
            digest = file_sha256(path)
        except OSError as err:
            raise ModelError(f"model {spec.name}: {path}: {err.strerror}") from err
        if digest != spec.sha256:
            mend = "reinstall the package" if spec.shipped else how_to_get(spec)
            raise ModelError(
                f"model {spec.name}: {path} is damaged or was changed (sha256 {digest[:12]}…, registry says {spec.sha256[:12]}…); {mend}"
            )
        return path


def read_registry(path: Path) -> RegistryFile:
    """Read one registry file.

    Raises:
        ModelError: unreadable, no TOML, or fields that do not fit.
    """
    try:
        return RegistryFile.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as err:
        raise ModelError(f"{path}: {err.strerror}") from err
    except ValidationError as err:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in err.errors()[:3])
        raise ModelError(f"{path}: {problems}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ModelError(f"{path}: not TOML: {err}") from err


def how_to_get(spec: ModelSpec) -> str:
    """Return the command that puts a model on this machine."""
    if spec.url is not None:
        return f"run `sightline models pull {spec.name}`"
    if spec.name.startswith("dlib_resnet"):
        return "run `sightline models build --set cc0`"
    return f"run `sightline models pull {spec.name} --from FILE`"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _merge(shipped: tuple[Named, ...], user: tuple[Named, ...], user_path: Path | None) -> dict[str, Named]:
    """Return both by name; the user may add, never replace what was reviewed and shipped."""
    merged = {entry.name: entry for entry in shipped}
    for entry in user:
        if entry.name in merged:
            raise ModelError(f"{user_path}: {entry.name} is already taken; give it another name")
        merged[entry.name] = entry
    return merged


def _find(entries: dict[str, Named], name: str, kind: str) -> Named:
    if name not in entries:
        raise NotFoundError(f"{kind} {name}: unknown; known are {', '.join(sorted(entries))}")
    return entries[name]
