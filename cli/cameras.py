"""``sightline cameras``: which cameras there are; add, list, test, change, switch, remove."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, UsageError
from core.settings import Settings

NAME = typer.Argument(help="Name of a camera.")
POLYGON_HELP = "as 'x1,y1 x2,y2 x3,y3 ...' in fractions (0..1) of the picture's width and height; may be given several times"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def cameras() -> None:
    """Add, list, test, change and remove cameras. A running 'sightline run' or 'sightline ingest' follows within seconds."""


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores and dashes.")],
    url: Annotated[
        str, typer.Argument(help="rtsp://, rtsp+udp://, http://, rtmp://, srt://, /dev/videoN, a video file, or a folder of clips.")
    ],
    region: Annotated[str, typer.Option(help="Group of cameras that is processed together.")] = "default",
    group: Annotated[list[str] | None, typer.Option(help="Watchlists and grants name groups; several are allowed.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Play a recording again and again.")] = False,
    max_fps: Annotated[float | None, typer.Option(help="At most so many frames a second are looked at.")] = None,
    zone: Annotated[list[str] | None, typer.Option(help=f"Motion counts only here: a polygon {POLYGON_HELP}.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help=f"Motion never counts here: a polygon {POLYGON_HELP}.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Add a camera. Its URL, with user name and password, is encrypted at rest and never shown again."""
    from ingest.cameras import CameraSpec
    from ingest.urls import kind_of
    from ingest.zones import parse_polygon

    if kind_of(url) in ("file", "folder"):
        url = str(_existing(url))
    spec = CameraSpec(
        name=name,
        url=url,
        region=region,
        loop=loop,
        max_fps=max_fps,
        zones=tuple(parse_polygon(text) for text in zone or ()),
        masks=tuple(parse_polygon(text) for text in mask or ()),
    )

    async def work(store: Any) -> None:
        await store.add(spec, groups=group or ())
        _say(as_json, await store.get(name), f"camera {name} added; 'sightline cameras test {name}' tries it")

    _with_store(ctx, work)


@app.command("set")
def change(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    url: Annotated[str | None, typer.Option(help="A new URL, with its credentials.")] = None,
    region: Annotated[str | None, typer.Option(help="Another group of cameras.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="New groups instead of all before ('' = none); several are allowed.")] = None,
    loop: Annotated[bool | None, typer.Option("--loop/--no-loop", help="Play a recording again and again, or once.")] = None,
    max_fps: Annotated[float | None, typer.Option(help="At most so many frames a second are looked at; 0 = the default.")] = None,
    zone: Annotated[list[str] | None, typer.Option(help=f"New zones instead of all before ('' = none): a polygon {POLYGON_HELP}.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help=f"New masks instead of all before ('' = none): a polygon {POLYGON_HELP}.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Change a camera; what is not named stays. Whoever runs it follows within seconds, and starts it anew."""
    from ingest.urls import kind_of
    from ingest.zones import parse_polygon

    changes: dict[str, Any] = {"url": url, "region": region, "loop": loop, "max_fps": max_fps, "zones": zone, "masks": mask}
    changes = {key: value for key, value in changes.items() if value is not None}
    if not changes and group is None:
        raise UsageError("nothing to change: name at least one of --url, --region, --group, --loop, --max-fps, --zone, --mask")
    if url is not None and kind_of(url) in ("file", "folder"):
        changes["url"] = str(_existing(url))
    if url is not None:
        changes["allow"] = None  # who has the machine may send it anywhere
    if max_fps == 0:
        changes["max_fps"] = None
    for key in ("zones", "masks"):
        if key in changes:
            changes[key] = tuple(parse_polygon(text) for text in changes[key] if text)

    async def work(store: Any) -> None:
        groups = None if group is None else tuple(one for one in group if one)

        def changed(before: Any) -> Any:
            return replace(before, spec=replace(before.spec, **changes), groups=before.groups if groups is None else groups)

        _say(as_json, await store.change(name, changed), f"camera {name} changed")

    _with_store(ctx, work)


@app.command("list")
def list_cameras(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the cameras, without their credentials; in a fleet also who runs each, and how it is."""

    async def work(store: Any, leases: Any) -> None:
        records, states = await store.list(), await leases.states()
        if as_json:
            for record in records:
                now = states.get(record.spec.name)
                told = {"ingester": now.ingester, "state": now.state, "reason": now.reason} if now else {}
                emit({**camera_line(record), **told})
            return
        table = Table("name", "url", "region", "enabled", *(["state"] if states else []), "options")
        for record in records:
            now = states.get(record.spec.name)
            state = f"{now.state} at {now.ingester}{': ' if now.reason else ''}{now.reason}" if now else "-"
            cells = (record.spec.name, record.url_redacted, record.spec.region, "yes" if record.enabled else "no")
            table.add_row(*cells, *([state] if states else []), _options(record.spec))
        console().print(table if records else "no cameras yet; 'sightline cameras add NAME URL' adds one")

    _with_stores(ctx, work)


@app.command()
def remove(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Remove a camera and its credentials. What it saw stays."""

    async def work(store: Any) -> None:
        record = await store.get(name)
        await store.remove(name)
        _say(as_json, record, f"camera {name} removed", removed=True)

    _with_store(ctx, work)


@app.command()
def enable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Run a camera again."""
    _switch(ctx, name, as_json=as_json, enabled=True)


@app.command()
def disable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Stop a camera without forgetting it."""
    _switch(ctx, name, as_json=as_json, enabled=False)


@app.command("test")
def try_camera(
    ctx: typer.Context,
    name_or_url: Annotated[str, typer.Argument(help="Name of a camera, or a URL or path to try before adding it.")],
    snapshot: Annotated[Path | None, typer.Option(help="Save the first picture as .png or .jpg.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Connect to a camera: codec, size, frame rate, time to the first picture."""
    from ingest.probe import probe_source

    if snapshot is not None and snapshot.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--snapshot {snapshot}: name it .png or .jpg")
    found = probe_source(_url_of(ctx, name_or_url))
    if snapshot is not None:
        _save(found.image, snapshot)
    line = {**found.line(), "snapshot": str(snapshot) if snapshot else None}
    if as_json:
        emit(line)
        return
    table = Table(show_header=False)
    for key, value in line.items():
        if value is not None:
            table.add_row(key, str(value))
    console().print(table)


def camera_line(record: Any) -> dict[str, Any]:
    """Return a camera as it is printed: never with credentials."""
    spec = record.spec
    return {
        "name": spec.name,
        "url": record.url_redacted,
        "region": spec.region,
        "groups": list(record.groups),
        "enabled": record.enabled,
        "loop": spec.loop,
        "max_fps": spec.max_fps,
        "zones": spec.zones,
        "masks": spec.masks,
    }


def _say(as_json: bool, record: Any, text: str, **more: Any) -> None:
    if as_json:
        emit({**camera_line(record), **more})
    else:
        console().print(text)


def _options(spec: Any) -> str:
    parts = [f"at most {spec.max_fps:g} fps"] if spec.max_fps else []
    parts += ["loop"] if spec.loop else []
    parts += [f"zones: {len(spec.zones)}"] if spec.zones else []
    parts += [f"masks: {len(spec.masks)}"] if spec.masks else []
    return ", ".join(parts)


def _switch(ctx: typer.Context, name: str, *, as_json: bool, enabled: bool) -> None:
    async def work(store: Any) -> None:
        await store.set_enabled(name, enabled)
        _say(as_json, await store.get(name), f"camera {name} {'enabled' if enabled else 'disabled'}")

    _with_store(ctx, work)


def _existing(url: str) -> Path:
    """Return a recording's absolute path: the service may run in another folder."""
    from ingest.urls import split_scheme

    path = Path(split_scheme(url)[1]).expanduser()
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder; a stream's URL starts with rtsp:// or http://")
    return path.resolve()


def _url_of(ctx: typer.Context, name_or_url: str) -> str:
    """Return the URL of a stored camera, or what was given when it looks like a URL or path."""
    if "/" in name_or_url or Path(name_or_url).exists():
        return name_or_url
    found: list[str] = []

    async def work(store: Any) -> None:
        found.append((await store.get(name_or_url)).spec.url)

    _with_store(ctx, work)
    return found[0]


def _save(image: Any, path: Path) -> None:
    import cv2
    import numpy as np

    from core.jpeg import encode_jpeg

    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes() if path.suffix.lower() == ".png" else encode_jpeg(np.asarray(image), 95)
    try:
        path.write_bytes(data)
    except OSError as err:
        raise UsageError(f"--snapshot {path}: {err.strerror}") from err


def _with_store(ctx: typer.Context, work: Callable[[Any], Awaitable[None]]) -> None:
    _with_stores(ctx, lambda store, _: work(store))


def _with_stores(ctx: typer.Context, work: Callable[[Any, Any], Awaitable[None]]) -> None:
    settings: Settings = ctx.obj.settings()

    async def opened() -> None:
        from cli.database import open_database_for
        from core.secrets import SecretBox
        from ingest.cameras import CameraStore
        from ingest.leases import LeaseStore

        async with open_database_for(settings) as db:
            await work(CameraStore(db, SecretBox(db.vault), allow=settings.outbound.camera_allow), LeaseStore(db))

    run_async(opened())
