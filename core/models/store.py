"""Putting models on this machine: a recorded file, a file of the user's, or a zip pack; checked, and whole or not at all."""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError
from core.models.download import MAX_FILE_BYTES, Progress, download, part_file
from core.models.recognise import Kind, recognise, spec_of
from core.models.registry import USER_REGISTRY, Registry, file_sha256, read_registry
from core.models.registry_text import registry_text
from core.models.spec import InputSpec, ModelSet, ModelSpec, PackSpec

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
MAX_PACK_ENTRIES = 50
"""buffalo_l has 5 files."""
UNKNOWN_TERMS: dict[str, str | bool] = {
    "licence": "not stated; treated as for non-commercial research only, like InsightFace's",
    "commercial_use": False,
    "training_data": "not stated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What ``models pull NAME`` means, before anything is fetched."""

    name: str
    model: ModelSpec | None
    """A model of the registry, or None."""
    pack: PackSpec | None
    """A pack of the registry, or None; when both are None the user brings a file that the registry does not know."""

    @property
    def licence(self) -> str:
        """Return the licence to show."""
        known = self.model or self.pack
        return known.licence if known is not None else str(UNKNOWN_TERMS["licence"])

    @property
    def needs_consent(self) -> bool:
        """Return whether the licence forbids commercial use, or is unknown."""
        known = self.model or self.pack
        return known is None or not known.commercial_use

    @property
    def url(self) -> str | None:
        """Return where it is fetched from unless the user brings a file."""
        known = self.model or self.pack
        return None if known is None else known.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What was put on this machine."""

    models: tuple[ModelSpec, ...]
    set_name: str | None
    """The set that a pack brought."""
    ignored: tuple[str, ...]
    """Files of a pack that are neither a detector nor an embedder."""


class ModelStore:
    """The model folder of a data directory. Thread rule: one process at a time writes; readers see whole files only."""

    def __init__(self, registry: Registry) -> None:
        if registry.folder is None:
            raise ModelError("no data directory given: there is no place to put models")
        self._registry = registry
        self._folder = registry.folder

    def wanted(self, name: str, source: str | None) -> Wanted:
        """Return what a name means.

        Raises:
            ModelError: the name is neither known nor accompanied by a file, can't be pulled, or is no good for a new model.
        """
        model, pack = self._registry.models.get(name), self._registry.packs.get(name)
        if model is not None and model.shipped:
            raise ModelError(f"model {name}: comes with Sightline; there is nothing to pull")
        if model is None and pack is None:
            if source is None:
                known = sorted([*(m.name for m in self._registry.models.values() if m.url), *self._registry.packs])
                raise ModelError(f"{name}: unknown; pull one of {', '.join(known)}, or give your own with --from FILE_OR_URL")
            own = self._registry.sets.get(name)
            if not NAME_PATTERN.fullmatch(name) or (own is not None and own.detector != f"{name}_detector"):
                raise ModelError(f"{name!r}: no name for a new model; use a new one of a-z, 0-9, _ and - (at most 41)")
        if model is not None and model.url is None and source is None:
            raise ModelError(f"model {name}: has no address to pull from; run `sightline models build --set cc0`, or give --from FILE")
        return Wanted(name=name, model=model, pack=pack)

    def pull(self, wanted: Wanted, source: str | None, progress: Progress | None = None) -> Pulled:
        """Fetch or copy what is wanted, check it, and put it in place. The licence question is the caller's.

        Args:
            wanted: as from ``wanted``.
            source: a path or an https address; None = the recorded one.
            progress: told about a download.

        Raises:
            NotFoundError, UnavailableError: the source is not there.
            ModelError: it is not what was recorded, or nothing that we can run.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".pull-") as scratch:
            path = self._obtain(wanted, source, (Path(scratch), progress))
            self._check_recorded(wanted, path)
            if wanted.model is not None:
                self._put(path, wanted.model.file)
                return Pulled(models=(wanted.model,), set_name=None, ignored=())
            if zipfile.is_zipfile(path):
                return self._install_pack(wanted, path, Path(scratch))
            return self._install_file(wanted, path)

    def _obtain(self, wanted: Wanted, source: str | None, where: tuple[Path, Progress | None]) -> Path:
        """Return a local file: the user's own, or the download."""
        scratch, progress = where
        origin = source or wanted.url
        if origin is None:
            raise ModelError(f"{wanted.name}: has no recorded address; give --from FILE_OR_URL")
        if "://" not in origin:
            path = Path(origin)
            if not path.is_file():
                raise ModelError(f"{origin}: no such file")
            return path
        path = scratch / "download"
        limit = wanted.pack.size_bytes if wanted.pack is not None else MAX_FILE_BYTES
        download(origin, path, max_bytes=limit, progress=progress)
        return path

    def _check_recorded(self, wanted: Wanted, path: Path) -> None:
        known = wanted.model or wanted.pack
        if known is None:
            return
        digest = file_sha256(path)
        if digest != known.sha256:
            raise ModelError(
                f"{wanted.name}: the file is not the recorded one (sha256 {digest[:12]}…, expected {known.sha256[:12]}…); "
                f"nothing was installed; to use your own version, pull it under another name with --from"
            )

    def _put(self, source: Path, file_name: str) -> None:
        with part_file(self._folder / file_name) as part:
            shutil.copyfile(source, part)

    def _install_file(self, wanted: Wanted, path: Path) -> Pulled:
        """Install one model that the registry does not know."""
        found = recognise(path)
        if found is None:
            raise ModelError(f"{path.name}: neither an SCRFD detector nor a 512-d ArcFace embedder; Sightline can't run it")
        spec = spec_of(wanted.name, file_sha256(path), found, self._terms(wanted, path.name))
        self._check_free((spec,))
        self._put(path, spec.file)
        self._register((spec,), None)
        return Pulled(models=(spec,), set_name=None, ignored=())

    def _install_pack(self, wanted: Wanted, path: Path, scratch: Path) -> Pulled:
        """Install the detector and the embedder of a zip pack as a set of its name."""
        found: dict[Kind, tuple[Path, InputSpec]] = {}
        ignored = []
        for entry in pack_entries(path):
            member = unpack_entry(path, entry, scratch)
            what = recognise(member)
            if what is None:
                ignored.append(entry.filename)
                member.unlink()
            elif what[0] in found:
                raise ModelError(f"{path.name}: holds several models of kind {what[0]}; give one of them with --from FILE")
            else:
                found[what[0]] = (member, what[1])
        if set(found) != {"scrfd", "arcface"}:
            raise ModelError(f"{path.name}: expected an SCRFD detector and an ArcFace embedder, found {', '.join(found) or 'neither'}")
        specs = []
        for kind, (member, tensor) in sorted(found.items(), reverse=True):  # the detector, then the embedder
            name = f"{wanted.name}_{'detector' if kind == 'scrfd' else 'embedder'}"
            specs.append(spec_of(name, file_sha256(member), (kind, tensor), self._terms(wanted, member.name)))
        self._check_free(specs)
        for spec, (_, (member, _)) in zip(specs, sorted(found.items(), reverse=True), strict=True):
            self._put(member, spec.file)
        note = "From a pack; not calibrated here: run `sightline evaluate` before you trust a threshold."
        self._register(specs, ModelSet(name=wanted.name, detector=specs[0].name, embedder=specs[1].name, note=note))
        return Pulled(models=tuple(specs), set_name=wanted.name, ignored=tuple(ignored))

    def _terms(self, wanted: Wanted, file_name: str) -> dict[str, str | bool]:
        if wanted.pack is None:
            return {**UNKNOWN_TERMS, "provenance": f"{file_name}, brought by the user"}
        pack = wanted.pack
        provenance = f"{pack.provenance}; {file_name}"
        return {
            "licence": pack.licence,
            "commercial_use": pack.commercial_use,
            "provenance": provenance,
            "training_data": pack.training_data,
        }

    def _check_free(self, specs: Sequence[ModelSpec]) -> None:
        """Refuse to replace a model of the same name and other content, before any file is touched."""
        known = self._registry.models
        taken = [spec.name for spec in specs if spec.name in known and known[spec.name].sha256 != spec.sha256]
        if taken:
            where = self._folder / USER_REGISTRY
            raise ModelError(
                f"{where}: {', '.join(taken)} is there already, with other content; take another name, or remove that entry first"
            )

    def _register(self, specs: Sequence[ModelSpec], made: ModelSet | None) -> None:
        """Add entries to the user's registry, which keeps what else is in it; entries that are there (calibrated since) are left alone."""
        path = self._folder / USER_REGISTRY
        before = path.read_text("utf-8") if path.exists() else "# Models of this machine; see docs/models.md. Entries may be edited.\n"
        new = [spec for spec in specs if spec.name not in self._registry.models]
        new_set = made if made is not None and made.name not in self._registry.sets else None
        if not new and new_set is None:
            return
        with part_file(path) as part:
            part.write_text(before + registry_text(new, new_set), "utf-8")
            read_registry(part)


def pack_entries(path: Path) -> list[zipfile.ZipInfo]:
    """Return the ONNX files of a zip.

    Raises:
        ModelError: damaged, encrypted, too many or too large entries, or a name that leads elsewhere.
    """
    try:
        with zipfile.ZipFile(path) as pack:
            entries = pack.infolist()
    except (zipfile.BadZipFile, OSError) as err:
        raise ModelError(f"{path.name}: damaged zip: {err}") from err
    if len(entries) > MAX_PACK_ENTRIES:
        raise ModelError(f"{path.name}: {len(entries)} entries, more than {MAX_PACK_ENTRIES}; this is no model pack")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        link = entry.external_attr >> 16 & 0o170000 == 0o120000
        if ".." in parts or entry.filename.startswith("/") or ":" in entry.filename or link:
            raise ModelError(f"{path.name}: entry {entry.filename!r} leads out of the pack; it was refused whole")
        if entry.file_size > MAX_FILE_BYTES or entry.flag_bits & 1:
            raise ModelError(f"{path.name}: entry {entry.filename!r} is encrypted or over {MAX_FILE_BYTES >> 20} MiB; it was refused whole")
    return [entry for entry in entries if entry.filename.lower().endswith(".onnx") and not Path(entry.filename).name.startswith(".")]


def unpack_entry(path: Path, entry: zipfile.ZipInfo, folder: Path) -> Path:
    """Unpack one entry under its plain name; never more bytes than it declares.

    Raises:
        ModelError: damaged, or larger than declared.
    """
    target = folder / Path(entry.filename.replace("\\", "/")).name
    try:
        with zipfile.ZipFile(path) as pack, pack.open(entry) as source, target.open("wb") as file:
            left = entry.file_size
            while chunk := source.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise ModelError(f"{path.name}: entry {entry.filename!r} is larger than it declares; it was refused whole")
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as err:
        raise ModelError(f"{path.name}: entry {entry.filename!r} is damaged: {err}") from err
    return target
