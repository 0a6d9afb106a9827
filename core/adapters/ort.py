"""onnxruntime behind one door: a session per model, with threads from the machine and no spinning.

Fixed batch shapes are the callers' business: each new input shape makes the runtime plan and allocate anew, and the CPU
arena never gives memory back, so its size is that of the largest shape ever run. Callers that keep to a few shapes keep memory flat.
"""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from core.errors import ModelError
from core.types import F32

log = structlog.get_logger(__name__)

Provider = Literal["tensorrt", "cuda", "cpu"]
PROVIDERS: dict[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our names, best first, to those of onnxruntime."""

ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
"""Everything onnxruntime raises for a bad file or a bad input; its own errors share no base class but Exception."""

ERROR_SEVERITY = 3
"""onnxruntime's log level: 3 = errors only. Its warnings about unused initialisers say nothing to an operator."""

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorShape:
    """Name and shape of a tensor of a model; None = dynamic."""

    name: str
    shape: tuple[int | None, ...]


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    return str(onnxruntime.__version__)


def available_providers() -> list[Provider]:
    """Return the providers this onnxruntime was built with, best first. A provider may still fail to start (no driver)."""
    built = set(onnxruntime.get_available_providers())
    return [name for name, ort_name in PROVIDERS.items() if ort_name in built]


def choose_provider(requested: str) -> Provider:
    """Return the provider to use for a setting (``auto`` = the best available).

    Raises:
        ModelError: the named provider is unknown or not in this onnxruntime.
    """
    available = available_providers()
    if requested == "auto":
        return available[0]
    for name in available:
        if name == requested:
            return name
    if requested in PROVIDERS:
        mend = "install sightline[gpu]" if requested != "cpu" else "reinstall onnxruntime"
        raise ModelError(
            f'provider {requested}: not in this onnxruntime (has {", ".join(available)}); {mend}, or set models.provider = "auto"'
        )
    raise ModelError(f"provider {requested}: unknown; use auto, {', '.join(PROVIDERS)}")


def machine_threads() -> int:
    """Return how many CPUs this process may use: its affinity, and its control group's quota where that is smaller."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpus()
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def cgroup_cpus(v2_file: Path = CGROUP_CPU_MAX, v1_folder: Path = CGROUP_V1) -> float | None:
    """Return the CPU quota of this control group in CPUs, or None without one. Reads cgroup v2, then v1."""
    try:
        if v2_file.exists():
            quota, period = v2_file.read_text().split()[:2]
        else:
            quota = (v1_folder / "cpu.cfs_quota_us").read_text().strip()
            period = (v1_folder / "cpu.cfs_period_us").read_text().strip()
        return float(quota) / float(period) if quota not in {"max", "-1"} else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


class OrtSession:
    """One model, loaded. Thread rule: ``run`` from one executor thread at a time; each session has its own thread pool."""

    def __init__(self, path: Path, *, provider: str, threads: int, cache_dir: Path | None = None) -> None:
        """Load a model file.

        Args:
            path: the ONNX file.
            provider: ``auto``, ``tensorrt``, ``cuda`` or ``cpu``.
            threads: CPU threads inside an operator; 0 = as many as this process may use.
            cache_dir: where TensorRT keeps built engines (building takes minutes); None = built at each start.

        Raises:
            ModelError: unreadable file, unknown provider, or a named provider that does not start.
        """
        self._path = path
        chosen = choose_provider(provider)
        options = session_options(threads or machine_threads())
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=provider_chain(chosen, cache_dir))
        except ORT_ERRORS as err:
            self._fail("cannot be loaded", err)
        self.provider: Provider = running_provider(self._session.get_providers())
        self._check_provider(provider, chosen)
        self.inputs = tuple(TensorShape(name=i.name, shape=known_shape(i.shape)) for i in self._session.get_inputs())
        self.outputs = tuple(TensorShape(name=o.name, shape=known_shape(o.shape)) for o in self._session.get_outputs())

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the first input; None = dynamic."""
        return self.inputs[0].shape

    def run(self, inputs: F32) -> list[NDArray[Any]]:
        """Run the model on its one input and return its outputs in graph order.

        Args:
            inputs: float32, of ``input_shape``.

        Raises:
            ModelError: the array does not fit the model, or the runtime fails (out of memory, driver lost).
        """
        want = self.input_shape
        fits = inputs.ndim == len(want) and all(n is None or n == got for n, got in zip(want, inputs.shape, strict=True))
        if not fits or inputs.dtype != np.float32:
            expected = "x".join("N" if n is None else str(n) for n in want)
            raise ModelError(f"{self._path.name}: expected input {expected} float32, got {'x'.join(map(str, inputs.shape))} {inputs.dtype}")
        return self.run_named({self.inputs[0].name: inputs})

    def run_named(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run a model of several inputs, by name, and return its outputs in graph order.

        Raises:
            ModelError: an input is missing, unknown or does not fit the model, or the runtime fails.
        """
        try:
            return list(self._session.run(None, dict(inputs)))
        except ORT_ERRORS as err:
            self._fail("failed to run", err)

    def _check_provider(self, requested: str, chosen: Provider) -> None:
        """Say it when the runtime fell back to another provider than the chosen one."""
        if self.provider == chosen:
            return
        if requested != "auto":
            raise ModelError(
                f'provider {requested}: did not start for {self._path.name} (driver or CUDA missing?); set models.provider = "auto"'
            )
        log.warning("provider did not start, using a slower one", model=self._path.name, wanted=chosen, using=self.provider)

    def _fail(self, what: str, err: Exception) -> NoReturn:
        """Raise a ModelError of one line."""
        reason = " ".join(str(err).split())[:300]
        raise ModelError(f"{self._path}: {what}: {reason}") from err


def session_options(threads: int) -> Any:
    """Return onnxruntime's options for one session.

    Spinning is off: with two sessions on few cores, idle threads that spin steal the CPU of the other session (detector and
    embedder on 2 cores: 54.7 ms spinning, 14.6 ms not). The exact int8 mode is on only where the CPU needs it: elsewhere it
    would halve the speed (dlib_resnet_int8, one face, busy machine: 7.5 ms instead of 3.5).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERROR_SEVERITY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1" if int8_saturates(platform.machine()) else "0")
    return options


def int8_saturates(machine: str, cpuinfo: Path = CPUINFO) -> bool:
    """Return whether this CPU multiplies uint8 by int8 with sums that saturate at 16 bits: x86 without VNNI.

    There the same int8 model would give other embeddings than elsewhere, hence the runtime's exact mode.
    Source: onnxruntime's documentation of quantisation, "U8S8 can run into saturation on AVX2 and AVX512".
    """
    if machine not in {"x86_64", "AMD64", "i686"}:
        return False
    try:
        return re.search(r"^flags\b.*\b(avx512_vnni|avx_vnni)\b", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE) is None
    except OSError:
        return True


def provider_chain(chosen: Provider, cache_dir: Path | None) -> list[Any]:
    """Return onnxruntime's providers from the chosen one down to the CPU, with their options."""
    chain: list[Any] = []
    for name in list(PROVIDERS)[list(PROVIDERS).index(chosen) :]:
        if name == "tensorrt" and cache_dir is not None:
            chain.append((PROVIDERS[name], {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_dir)}))
        elif name in available_providers():
            chain.append(PROVIDERS[name])
    return chain


def running_provider(ort_names: list[str]) -> Provider:
    """Return our name of the best provider that a session really uses."""
    return next(name for name, ort_name in PROVIDERS.items() if ort_name in ort_names)


def known_shape(shape: list[int | str | None]) -> tuple[int | None, ...]:
    """Return a shape with None for every dynamic axis."""
    return tuple(n if isinstance(n, int) and n > 0 else None for n in shape)
