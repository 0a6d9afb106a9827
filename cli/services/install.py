"""Get a server's programs: Debian packages for root, jars through Maven; otherwise one line that says what to install."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from core.errors import UnavailableError

INSTALL_TIMEOUT_S = 900.0
POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked by Debian's packages before they start a server of their own; ours must be the only one."""

_log = structlog.get_logger(__name__)


def cache_dir() -> Path:
    """Return where downloads are kept, shared by all checkouts of this user."""
    folder = Path.home() / ".cache" / "sightline"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_program(name: str, packages: Sequence[str], *, folders: Sequence[str] = ()) -> Path:
    """Return the path of a program, after installing its Debian packages where it is missing and we are root.

    Args:
        name: of the executable.
        packages: Debian packages that bring it.
        folders: where to look besides PATH.

    Raises:
        UnavailableError: it is missing and can't be installed, with what to do.
    """
    search = os.pathsep.join([*folders, os.defpath, "/usr/local/bin:/usr/sbin:/usr/local/sbin"])
    found = shutil.which(name) or shutil.which(name, path=search)
    if found:
        return Path(found)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise UnavailableError(f"{name} is not installed; install it (Debian, Ubuntu: sudo apt-get install {' '.join(packages)})")
    with locked(cache_dir() / "apt.lock"):
        found = shutil.which(name) or shutil.which(name, path=search)
        if not found:
            _apt_install(packages)
            found = shutil.which(name) or shutil.which(name, path=search)
    if not found:
        raise UnavailableError(f"apt-get installed {' '.join(packages)}, but there is no {name}")
    return Path(found)


def run_installer(command: Sequence[str | Path], *, what: str, folder: Path | None = None) -> None:
    """Run a program that fetches something. Raises UnavailableError with its last words."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise UnavailableError(f"can't {what}: {err}") from err
    if done.returncode != 0:
        words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["it left no message"]
        telling = next((line for line in words if line.startswith(("E:", "[ERROR]"))), words[-1])
        raise UnavailableError(f"can't {what}: {telling.strip()}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it with the process."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _apt_install(packages: Sequence[str]) -> None:
    _log.warning("installing Debian packages", packages=list(packages))
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends"]
    install += ["-o", "DPkg::Lock::Timeout=300", *packages]
    with _no_service_starts():
        try:
            run_installer(install, what=f"install {' '.join(packages)}")
        except UnavailableError:  # a fresh machine has no package lists yet
            run_installer(["apt-get", "update", "-q"], what="fetch the package lists")
            run_installer(install, what=f"install {' '.join(packages)}")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep the packages from starting servers with their own configuration."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
