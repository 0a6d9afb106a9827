"""How a showing looks: a live table on a terminal, plain lines in a pipe, JSON lines for programs."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.demo.summary import Account, Finding, Summary
from cli.first_key import NOTE
from cli.output import emit

ROWS = 14  # sightings that stay on the screen
REFRESH_PER_S = 5
NAMED, UNKNOWN, UNCLEAR = "bold green", "yellow", "dim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One sighting as the table shows it."""

    sighting_id: str
    at_s: float
    """Unix seconds of the track's first frame."""
    camera: str
    outcome: str
    """subject, stranger or unclear."""
    name: str | None
    reason: str
    score: float | None
    threshold: float
    latency_ms: float
    faces: int
    closed: bool

    @property
    def who(self) -> str:
        """The name, or what stands for none."""
        if self.outcome == "subject":
            return self.name or ""
        return "unknown" if self.outcome == "stranger" else "can't tell yet" if not self.closed else "too poor to tell"

    @property
    def style(self) -> str:
        """Colour of the name."""
        return {"subject": NAMED, "stranger": UNKNOWN}.get(self.outcome, UNCLEAR)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """One camera's line in the footer."""

    state: str
    account: Account


class View(Protocol):
    """Shows a showing. Thread rule: one event loop; ``preparing`` from any thread."""

    def preparing(self, what: str) -> None:
        """Say what is being done before the cameras run."""
        ...

    def admin_key(self, key: str) -> None:
        """Tell the key that the first start has made, this once."""
        ...

    def ready(self, *, url: str, people: Sequence[str], cameras: Sequence[str], note: str) -> None:
        """Say that the cameras run."""
        ...

    def seen(self, sighting: Seen) -> None:
        """Show a sighting that is new or better known."""
        ...

    def cameras(self, states: Sequence[CameraState]) -> None:
        """Show how the cameras are."""
        ...

    def summary(self, summary: Summary) -> None:
        """Show the outcome."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class TableView:
    """A live table. For terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: OrderedDict[str, Seen] = OrderedDict()
        self._states: Sequence[CameraState] = ()
        self._title = ""
        self._live: Live | None = None
        self._status = console.status("")

    def preparing(self, what: str) -> None:
        """Show a spinner."""
        self._status.update(what)
        self._status.start()

    def admin_key(self, key: str) -> None:
        """Print it above the table."""
        self._status.stop()
        self._console.print(f"[bold]{NOTE}[/]\n  {key}", soft_wrap=True)

    def ready(self, *, url: str, people: Sequence[str], cameras: Sequence[str], note: str) -> None:
        """Open the table."""
        self._status.stop()
        self._title = f"[bold]Sightline demo[/] · enrolled: {', '.join(people)} · API and live page: [link={url}]{url}[/link]"
        self._console.print(Text(note, style="dim"))
        self._live = Live(self._render(), console=self._console, refresh_per_second=REFRESH_PER_S)
        self._live.start()

    def seen(self, sighting: Seen) -> None:
        """Add or change a row; the oldest leave."""
        self._rows[sighting.sighting_id] = sighting
        while len(self._rows) > ROWS:
            self._rows.popitem(last=False)
        self._update()

    def cameras(self, states: Sequence[CameraState]) -> None:
        """Renew the footer."""
        self._states = states
        self._update()

    def summary(self, summary: Summary) -> None:
        """Close the table and print the outcome below it."""
        self.close()
        print_summary(self._console, summary)

    def close(self) -> None:
        """Stop the live display; what it showed stays on the screen."""
        self._status.stop()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _update(self) -> None:
        if self._live is not None:
            self._live.update(self._render())

    def _render(self) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False, header_style="bold dim")
        for name, side in (
            ("time", "left"),
            ("camera", "left"),
            ("who", "left"),
            ("score / needed", "right"),
            ("latency", "right"),
            ("faces", "right"),
        ):
            table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for sighting in self._rows.values():
            table.add_row(
                clock_time(sighting.at_s),
                sighting.camera,
                Text(sighting.who, style=sighting.style),
                score_text(sighting),
                f"{sighting.latency_ms:.0f} ms",
                str(sighting.faces),
                Text("left", style="dim") if sighting.closed else Text("in view", style="cyan"),
            )
        if not self._rows:
            table.add_row("", "", Text("nobody yet", style="dim"))
        return Panel(Group(table, Text(""), _footer(self._states)), title=self._title, subtitle="Ctrl-C ends", border_style="blue")


class LineView:
    """A line per change of mind and one when a person has left. For pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, tuple[str, bool]] = {}

    def preparing(self, what: str) -> None:
        """Print it."""
        self._say(what)

    def admin_key(self, key: str) -> None:
        """Print it."""
        self._say(f"{NOTE} {key}")

    def ready(self, *, url: str, people: Sequence[str], cameras: Sequence[str], note: str) -> None:
        """Say what runs."""
        self._say(f"Sightline demo: enrolled {', '.join(people)}; cameras {', '.join(cameras)}; API on {url}")
        self._say(note)

    def seen(self, sighting: Seen) -> None:
        """Print a line when the answer changed or the person left."""
        now = (sighting.who, sighting.closed)
        if self._said.get(sighting.sighting_id) != now and (sighting.outcome != "unclear" or sighting.closed):
            self._said[sighting.sighting_id] = now
            state = "left" if sighting.closed else "in view"
            self._say(
                f"{clock_time(sighting.at_s)}  {sighting.camera:<8} {sighting.who:<18} score {score_text(sighting)}  "
                f"{sighting.latency_ms:.0f} ms  {sighting.faces} faces  {state}"
            )

    def cameras(self, states: Sequence[CameraState]) -> None:
        """Say nothing: the summary has the figures."""

    def summary(self, summary: Summary) -> None:
        """Print the outcome."""
        print_summary(self._console, summary)

    def close(self) -> None:
        """Nothing to give back."""

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class JsonView:
    """JSON lines on stdout. For programs."""

    def preparing(self, what: str) -> None:
        """Emit ``preparing``."""
        emit({"event": "preparing", "what": what})

    def admin_key(self, key: str) -> None:
        """Emit ``admin_key``."""
        emit({"event": "admin_key", "key": key})

    def ready(self, *, url: str, people: Sequence[str], cameras: Sequence[str], note: str) -> None:
        """Emit ``ready``."""
        emit({"event": "ready", "url": url, "people": list(people), "cameras": list(cameras), "note": note})

    def seen(self, sighting: Seen) -> None:
        """Emit ``sighting``."""
        emit({"event": "sighting", "who": sighting.who, "sighting": sighting})

    def cameras(self, states: Sequence[CameraState]) -> None:
        """Emit ``cameras``."""
        emit({"event": "cameras", "cameras": [{"state": state.state, **account_fields(state.account)} for state in states]})

    def summary(self, summary: Summary) -> None:
        """Emit ``summary``."""
        emit({"event": "summary", **summary_fields(summary)})

    def close(self) -> None:
        """Nothing to give back."""


def account_fields(account: Account) -> dict[str, Any]:
    """Return a camera's frame accounting for JSON."""
    names = ("camera", "decoded", "published", "finished", "dead_lettered", "dropped", "balanced")
    return {name: getattr(account, name) for name in names}


def summary_fields(summary: Summary) -> dict[str, Any]:
    """Return a summary for JSON."""
    findings = [
        {name: getattr(finding, name) for name in ("camera", "person", "known", "verdict", "right", "score", "names", "sightings")}
        for finding in summary.findings
    ]
    return {
        "right": summary.right,
        "findings": findings,
        "stray_names": summary.stray_names,
        "accounts": [account_fields(account) for account in summary.accounts],
        "latency_p50_ms": summary.latency_p50_ms,
        "latency_p95_ms": summary.latency_p95_ms,
    }


def clock_time(at_s: float) -> str:
    """Return the local time of day."""
    return datetime.fromtimestamp(at_s).astimezone().strftime("%H:%M:%S")


def score_text(sighting: Seen) -> str:
    """Return score and threshold, or a dash where nothing was compared."""
    return f"{sighting.score:.2f} / {sighting.threshold:.2f}" if sighting.score is not None else f"- / {sighting.threshold:.2f}"


def print_summary(console: Console, summary: Summary) -> None:
    """Print the outcome for people."""
    table = Table(title="What the script says, and what was seen", title_justify="left", header_style="bold")
    for column in ("camera", "person", "enrolled", "outcome", "best score", "tracks"):
        table.add_column(column, no_wrap=True)
    for finding in summary.findings:
        table.add_row(*_finding_cells(finding))
    console.print(table)
    for name in summary.stray_names:
        console.print(f"[red]{name} was named where the script has nobody[/]")
    console.print(_footer([CameraState(state="done", account=account) for account in summary.accounts]))
    if summary.latency_p50_ms is not None and summary.latency_p95_ms is not None:
        console.print(f"capture to decision: p50 {summary.latency_p50_ms:.0f} ms, p95 {summary.latency_p95_ms:.0f} ms")
    verdict = "every name right, no stranger named, every frame accounted for" if summary.right else "not as the script says: see above"
    console.print(Text(verdict, style="bold green" if summary.right else "bold red"))


def _finding_cells(finding: Finding) -> tuple[str | Text, ...]:
    names = f": {', '.join(finding.names)}" if finding.verdict == "wrongly named" else ""
    return (
        finding.camera,
        finding.person,
        "yes" if finding.known else "no",
        Text(("✓ " if finding.right else "✗ ") + finding.verdict + names, style="green" if finding.right else "red"),
        f"{finding.score:.2f}" if finding.score is not None else "-",
        str(finding.sightings),
    )


def _footer(states: Sequence[CameraState]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", style="dim")
    for column in ("camera", "state", "decoded", "published", "finished", "in flight", "dead-lettered", "dropped"):
        table.add_column(column, justify="left" if column in ("camera", "state") else "right")
    for state in states:
        account = state.account
        in_flight = account.published - account.finished - account.dead_lettered
        counts = (account.decoded, account.published, account.finished, in_flight, account.dead_lettered, account.dropped)
        table.add_row(account.camera, Text(state.state, style="green" if state.state in ("up", "done") else "yellow"), *map(str, counts))
    return table
