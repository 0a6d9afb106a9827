"""How every benchmark reports: one JSON object with the hardware for programs, one table for people."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.output import emit

CPUINFO = Path("/proc/cpuinfo")
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_vpopcntdq", "avx512_fp16", "amx_int8", "amx_bf16", "asimd", "sve")
"""CPU features that decide how fast search, decoding and inference are."""
GPU_QUERY_TIMEOUT_S = 5.0  # nvidia-smi on an unhealthy driver hangs; a report must not

Figures = dict[str, tuple[float, str]]
"""Name -> (value, unit). A unit is ms, s, ratio, bytes, 1/s, x (times faster) or a noun in the plural."""


def hardware() -> dict[str, Any]:
    """Describe the machine a benchmark runs on.

    Returns:
        cpu (model name), cores_physical, cores_logical (of the machine), cores_usable (by this process), cpu_flags (those of
        VECTOR_FLAGS that are there), memory_gib, python, os, gpu (list of names with memory; empty without an NVIDIA driver).
    """
    cpus = _linux_cpus()
    first = cpus[0] if cpus else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    return {
        "cpu": first.get("model name") or platform.processor() or platform.machine(),
        "cores_physical": len({(cpu.get("physical id", "0"), cpu.get("core id", cpu.get("processor"))) for cpu in cpus}) or None,
        "cores_logical": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_flags": [flag for flag in VECTOR_FLAGS if flag in flags],
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "gpu": _gpus(),
    }


def emit_report(bench: str, *, settings: dict[str, Any], figures: Figures, as_json: bool) -> None:
    """Print a benchmark's outcome on stdout.

    Args:
        bench: name of the benchmark, e.g. ``match``.
        settings: what it was run with (sizes, threads, versions); JSON values.
        figures: name -> (value, unit).
        as_json: one JSON object ``{bench, hardware, settings, figures: {name: {value, unit}}}`` on one line, else a table.
    """
    machine = hardware()
    if as_json:
        named = {name: {"value": value, "unit": unit} for name, (value, unit) in figures.items()}
        emit({"bench": bench, "hardware": machine, "settings": settings, "figures": named})
        return
    table = Table(title=f"bench {bench}", caption=_caption(machine, settings), caption_justify="left", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for name, (value, unit) in figures.items():
        table.add_row(name, format_value(value), unit)
    Console(highlight=False).print(table)


def format_value(value: float) -> str:
    """Write a figure for people: whole numbers whole, small ones with four significant digits."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 10_000 else f"{value:.4g}"


def _caption(machine: dict[str, Any], settings: dict[str, Any]) -> str:
    cores = f"{machine['cores_usable']} of {machine['cores_logical']} cores"
    gpu = "".join(f", {name}" for name in machine["gpu"])
    chosen = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{machine['cpu']}, {cores}, {machine['memory_gib']} GiB{gpu}, Python {machine['python']}\n{chosen}"


def _linux_cpus() -> list[dict[str, str]]:
    if not CPUINFO.exists():
        return []
    blocks = CPUINFO.read_text(encoding="utf-8", errors="replace").strip().split("\n\n")
    return [{k.strip(): v.strip() for k, _, v in (line.partition(":") for line in block.splitlines())} for block in blocks]


def _memory_gib() -> float | None:
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=GPU_QUERY_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as err:
        return [f"unknown (nvidia-smi: {type(err).__name__})"]
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]
