"""What the demo prints."""

from dataclasses import replace

from rich.console import Console

from cli.demo.summary import Account, Finding, Summary
from cli.demo.view import CameraState, LineView, Seen, TableView, summary_fields

SEEN = Seen(
    sighting_id="1",
    at_s=1_700_000_000.0,
    camera="lobby",
    outcome="unclear",
    name=None,
    reason="too_small",
    score=None,
    threshold=0.42,
    latency_ms=61.4,
    faces=1,
    closed=False,
)
NAMED = replace(SEEN, outcome="subject", name="Joe Biden", score=0.9612, faces=4)
ACCOUNT = Account(camera="lobby", decoded=280, published=170, finished=160, dead_lettered=1, dropped=4)


def recording() -> Console:
    return Console(width=120, record=True, highlight=False)


def test_lines_tell_a_change_of_mind_once_and_the_leaving() -> None:
    console = recording()
    view = LineView(console)
    for sighting in (SEEN, NAMED, replace(NAMED, faces=9), replace(NAMED, closed=True)):
        view.seen(sighting)
    lines = console.export_text().splitlines()
    assert len(lines) == 2
    assert "Joe Biden" in lines[0]
    assert "score 0.96 / 0.42  61 ms  4 faces  in view" in lines[0]
    assert lines[1].endswith("left")


def test_who_is_nobody_has_words_for_it() -> None:
    assert SEEN.who == "can't tell yet"
    assert replace(SEEN, closed=True).who == "too poor to tell"
    assert replace(SEEN, outcome="stranger").who == "unknown"


def test_the_table_shows_sightings_and_accounts_for_frames() -> None:
    console = recording()
    view = TableView(console)
    view.ready(url="http://127.0.0.1:8400", people=["Joe Biden"], cameras=["lobby"], note="note")
    view.seen(NAMED)
    view.cameras([CameraState(state="live", account=ACCOUNT)])
    view.close()
    text = console.export_text()
    assert "0.96 / 0.42" in text
    assert "http://127.0.0.1:8400" in text
    footer = next(line for line in text.splitlines() if "280" in line)
    assert footer.split()[1:9] == ["lobby", "live", "280", "170", "160", "9", "1", "4"]


def test_a_wrong_name_is_named_in_the_summary() -> None:
    finding = Finding(
        camera="gate", person="Grace Hopper", known=False, verdict="wrongly named", score=0.5, names=("Joe Biden",), sightings=1
    )
    summary = Summary(findings=(finding,), stray_names=(), accounts=(ACCOUNT,), latency_p50_ms=60.0, latency_p95_ms=90.0)
    console = recording()
    LineView(console).summary(summary)
    text = console.export_text()
    assert "wrongly named: Joe Biden" in text
    assert "not as the script says" in text
    assert summary_fields(summary)["right"] is False
