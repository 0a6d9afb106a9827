"""``sightline enroll``: photos become subjects, with a line per photo and a report."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, UsageError
from core.settings import Settings
from enrollment.record import Outcome, Photo, SubjectDetails, check_collection

if TYPE_CHECKING:
    from enrollment.service import EnrollOptions

MAX_REJECTS_SHOWN: Final = 40
HARMLESS: Final = frozenset({"duplicate_of_same_subject"})
"""Rejections after which the gallery is as good as if the photo had been taken."""
_DAYS = re.compile(r"(\d{1,5})d")
EPILOG = "Exit codes: 0 something was enrolled, or all was there already · 1 every photo was rejected · 5 no photos · see sightline --help."

app = typer.Typer()


@dataclass(slots=True)
class Tally:
    """What became of the photos so far."""

    outcomes: list[Outcome] = field(default_factory=list)

    def summary(self, *, collection: str, model: str, seconds: float) -> dict[str, Any]:
        """Return the summary line."""
        by_status = Counter(outcome.status for outcome in self.outcomes)
        subjects = {outcome.subject for outcome in self.outcomes if outcome.status != "rejected"}
        return {
            "summary": True,
            "files": len(self.outcomes),
            "enrolled": by_status["enrolled"],
            "unchanged": by_status["unchanged"],
            "rejected": by_status["rejected"],
            "subjects": len(subjects),
            "reasons": dict(Counter(outcome.reason for outcome in self.outcomes if outcome.reason).most_common()),
            "collection": collection,
            "model": model,
            "seconds": round(seconds, 3),
        }

    def exit_code(self) -> int:
        """Return 0 if something was enrolled or there was nothing to do, else 1."""
        refused = any(outcome.status == "rejected" and outcome.reason not in HARMLESS for outcome in self.outcomes)
        return 1 if refused and not any(outcome.status in ("enrolled", "unchanged") for outcome in self.outcomes) else 0


@app.command(epilog=EPILOG)
def enroll(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="A folder per subject, photos named after subjects, a CSV, or a zip of these.")],
    as_json: bool = JSON_OPTION,
    collection: Annotated[str | None, typer.Option(help="The gallery to enrol into (default: the one that is recognized).")] = None,
    subject: Annotated[str | None, typer.Option(help="All photos are of this one subject.")] = None,
    numbered: Annotated[bool, typer.Option("--numbered", help="alice_1.jpg and alice_2.jpg are both alice.")] = False,
    allow_lookalike: Annotated[bool, typer.Option("--allow-lookalike", help="Enrol faces that look like another subject (twins).")] = False,
    consent_purpose: Annotated[str | None, typer.Option(help="What the people agreed to; recorded with each subject.")] = None,
    expires: Annotated[str | None, typer.Option(help="Until when they may be recognized: a date (2027-01-31) or days (90d).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON to this file too.")] = None,
) -> None:
    """Enrol people from photos. Repeating it is cheap and safe: photos that are known are skipped."""
    from enrollment.imports import Naming, list_photos
    from enrollment.service import EnrollOptions

    settings: Settings = ctx.obj.settings()
    options = EnrollOptions(collection=check_collection(collection or settings.recognize.collection), allow_lookalike=allow_lookalike)
    now = datetime.now(UTC)
    details = SubjectDetails(consent=_consent(consent_purpose, now), expires_at=parse_expiry(expires, now) if expires else None)
    naming = Naming(subject=subject, numbered=numbered, details=details)
    photos = [photo for path in paths for photo in list_photos(path, naming)]
    if not photos:
        raise NotFoundError(f"{', '.join(str(path) for path in paths)}: no photos in it")
    tally = Tally()
    summary = run_async(_enroll(settings, photos, options, tally=tally, as_json=as_json))
    if report is not None:
        write_report(report, summary, tally.outcomes)
    _show(summary, tally.outcomes, as_json)
    raise typer.Exit(tally.exit_code())


async def _enroll(settings: Settings, photos: list[Photo], options: "EnrollOptions", *, tally: Tally, as_json: bool) -> dict[str, Any]:
    from cli.audit_chain import keep_command
    from cli.compose import open_gallery

    async with open_gallery(settings) as gallery:
        with _progress(len(photos), as_json) as advance:
            started = time.perf_counter()

            def seen(outcome: Outcome) -> None:
                tally.outcomes.append(outcome)
                if as_json:
                    emit(outcome_line(outcome))
                advance(outcome)

            await gallery.enroller.enroll_all(photos, seen, options)
        made = {outcome.subject_id for outcome in tally.outcomes if outcome.status == "enrolled" and outcome.subject_id}
        enrolled = sum(outcome.status == "enrolled" for outcome in tally.outcomes)
        await keep_command(gallery.db, "subject.enroll", *sorted(made), photos=len(photos), enrolled=enrolled)
        seconds = time.perf_counter() - started
        return tally.summary(collection=options.collection, model=gallery.embedder.model, seconds=seconds)


@contextmanager
def _progress(total: int, as_json: bool) -> Iterator[Callable[[Outcome], None]]:
    """Show a progress bar on stderr, with each rejection above it; nothing with --json."""
    out = console()
    if as_json or not out.is_terminal:
        yield lambda _: None
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=out)
    with bar:
        task = bar.add_task("enrolling", total=total)

        def advance(outcome: Outcome) -> None:
            bar.advance(task)
            if outcome.status == "rejected":
                bar.console.print(f"  {_plain(outcome.file)}: {_plain(outcome.detail)}", style="yellow")

        yield advance


def outcome_line(outcome: Outcome) -> dict[str, Any]:
    """Return one photo's line of JSON."""
    return {
        "file": outcome.file,
        "subject": outcome.subject,
        "status": outcome.status,
        "reason": outcome.reason or None,
        "quality": None if outcome.quality is None else round(outcome.quality, 4),
        "detail": outcome.detail or None,
        "subject_id": outcome.subject_id,
        "reference_id": outcome.reference_id,
    }


def write_report(path: Path, summary: dict[str, Any], outcomes: list[Outcome]) -> None:
    """Write the report as one JSON object, whole or not at all.

    Raises:
        UsageError: the file can't be written.
    """
    data = msgspec.json.format(msgspec.json.encode({**summary, "photos": [outcome_line(outcome) for outcome in outcomes]}), indent=2)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data + b"\n")
        fresh.replace(path)
    except OSError as err:
        fresh.unlink(missing_ok=True)
        raise UsageError(f"--report {path}: can't be written: {err.strerror}; the photos themselves are enrolled") from err


def _show(summary: dict[str, Any], outcomes: list[Outcome], as_json: bool) -> None:
    if as_json:
        emit(summary)
        return
    out = console()
    rejected = [outcome for outcome in outcomes if outcome.status == "rejected"]
    if rejected:
        table = Table("photo", "subject", "reason", "what to do", title=f"{len(rejected)} rejected", title_justify="left")
        for outcome in rejected[:MAX_REJECTS_SHOWN]:
            table.add_row(*(_plain(text) for text in (outcome.file, outcome.subject, outcome.reason.replace("_", " "), outcome.detail)))
        out.print(table)
        if len(rejected) > MAX_REJECTS_SHOWN:
            out.print(f"... and {len(rejected) - MAX_REJECTS_SHOWN} more; --report FILE lists all")
    counts = f"{summary['enrolled']} enrolled, {summary['unchanged']} unchanged, {summary['rejected']} rejected"
    out.print(f"{summary['files']} photos of {summary['subjects']} subjects in {summary['seconds']:.1f} s: {counts}")


def _plain(text: str) -> str:
    """Return text that rich shows as it is, on one line."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("[", r"\[")


def _consent(purpose: str | None, now: datetime) -> dict[str, Any] | None:
    return {"purpose": purpose, "given_at": now.isoformat(timespec="seconds")} if purpose else None


def parse_expiry(text: str, now: datetime) -> datetime:
    """Read a date (the end of that day, UTC), a time with zone, or a number of days.

    Raises:
        UsageError: it is neither, or past.
    """
    if match := _DAYS.fullmatch(text.strip()):
        return now + timedelta(days=int(match[1]))
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as err:
        raise UsageError(f"--expires {text}: give a date like 2027-01-31, or days like 90d") from err
    if len(text.strip()) <= len("2027-01-31"):
        when += timedelta(days=1)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise UsageError(f"--expires {text}: is past; give a date to come")
    return when
