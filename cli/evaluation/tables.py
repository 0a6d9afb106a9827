"""The figures of an evaluation as tables for people."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MAX_FAILURES_SHOWN = 20


def show(out: Console, task: str, report: dict[str, Any], plot: Path | None) -> None:
    """Print a report; each failure to acquire with its reason."""
    {"identification": _identification, "verification": _verification, "calibration": _calibration}[task](out, report)
    for failure in report["failures"][:MAX_FAILURES_SHOWN]:
        out.print(f"  not used: {failure['set']}: {failure['file']}: {failure['reason']}", markup=False)
    left = len(report["failures"]) - MAX_FAILURES_SHOWN
    if left > 0:
        out.print(f"  and {left} more; --json lists all")
    if "time_ms" in report:
        out.print("time a photo: " + ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in report["time_ms"].items()))
    if plot is not None:
        out.print(f"DET plot: {plot}", markup=False)


def _identification(out: Console, report: dict[str, Any]) -> None:
    people = f"{report['enrolled_subjects']} people, {report['enrolled']} references"
    table = Table("", "threshold", "enrolled people named (TPIR)", "strangers named (FPIR)", title=f"{report['model']}: {people}")
    in_use = report["in_use"]
    table.add_row("in use", f"{in_use['threshold']:.3f}", _share(in_use["tpir"]), _share(in_use["fpir"]))
    for name, tpir in report["tpir"].items():
        low, high = report["tpir_interval"][name]
        note = "" if report["tpir_measured"][name] else " (extrapolated)"
        row = f"FPIR {float(name):.1%}", f"{report['thresholds'][name]:.3f}", _span(tpir, low, high), f"{float(name):.1%}{note}"
        table.add_row(*row)
    out.print(table)
    low, high = report["rank1_interval"]
    out.print(f"rank 1: {_span(report['rank1'], low, high)} of {report['mated_probes']} probes of enrolled people")
    out.print(
        f"strangers: {report['stranger_probes']} probes ({report['strangers']}); failures to acquire: {report['failures_to_acquire']}"
    )


def _verification(out: Console, report: dict[str, Any]) -> None:
    table = Table(
        "", "threshold", "one person accepted (TAR)", "two people accepted (FAR)", title=f"{report['model']}: {report['pairs']} pairs"
    )
    for name, tar in report["tar"].items():
        note = "" if report["tar_measured"][name] else " (too few pairs to measure)"
        table.add_row(f"FAR {float(name):.1%}", f"{report['thresholds'][name]:.3f}", _share(tar), f"{float(name):.1%}{note}")
    for name, point in report["calibrated"].items():
        table.add_row(f"calibrated for {float(name):.1%}", f"{point['threshold']:.3f}", _share(point["tar"]), _share(point["far"]))
    out.print(table)
    out.print(
        f"AUC {report['auc']:.5f} · EER {report['eer']:.3%} · best accuracy {report['accuracy']:.2%} at {report['accuracy_threshold']:.3f}"
    )
    out.print(f"failures to acquire: {report['failures_to_acquire']} photos, {report['skipped_pairs']} pairs skipped")


def _calibration(out: Console, report: dict[str, Any]) -> None:
    for table in report["tables"]:
        shown = Table("FAR", "score", "counted", "normal", "exponential", "Pareto", title=f"{report['model']}, {table['kind']} probes")
        for point in table["points"]:
            cells = (point[key] for key in ("score", "counted", "normal", "exponential", "pareto"))
            shown.add_row(f"{point['far']:g}", *("-" if cell is None else f"{cell:.3f}" for cell in cells))
        out.print(shown)
        out.print(f"{table['comparisons']} comparisons of {report['subjects']} people")
    out.print(f"written: {report['written']}", markup=False)


def _share(rate: dict[str, float]) -> str:
    return _span(rate["value"], rate["low"], rate["high"])


def _span(value: float, low: float, high: float) -> str:
    return f"{value:.2%} [dim]({low:.1%} to {high:.1%})[/]"
