"""Where photos come from: a folder per subject, flat files, a CSV, a zip of any of these. Lists first, reads later.

What can't be used is listed as a photo that can't be read, and so reported in its place: nothing stops an import, nothing is dropped
silently.
Only hidden files (a leading dot, __MACOSX, Thumbs.db, desktop.ini) are passed over.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.photo import UnsupportedPhotoError, read_bytes
from enrollment.archive import Archive, open_archive
from enrollment.judge import without_number
from enrollment.record import Photo, SubjectDetails

CSV_SUFFIX: Final = ".csv"
ZIP_SUFFIX: Final = ".zip"
CSV_COLUMNS: Final = ("file", "subject", "name", "attributes")
MAX_CSV_BYTES: Final = 256 << 20
TOO_DEEP: Final = "is a folder inside a subject's folder; only SUBJECT/photo is read, so move its photos up"
HIDDEN: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How files become subjects."""

    subject: str | None = None
    """All photos are of this one subject."""
    numbered: bool = False
    """A number at the end of a flat file's name is not part of the subject's: alice_1.jpg and alice_2.jpg are alice."""
    details: SubjectDetails = field(default_factory=SubjectDetails)
    """Of every subject; a CSV's attributes come on top."""

    def of_file(self, stem: str) -> str:
        """Return the subject of a flat file."""
        return self.subject or (without_number(stem) if self.numbered else stem)

    def of_folder(self, folder: str) -> str:
        """Return the subject of a file in a folder."""
        return self.subject or folder


def list_photos(path: Path, naming: Naming) -> list[Photo]:
    """List the photos of a folder, a CSV, a zip or a single file, in order of name.

    Args:
        path: what the user gave.
        naming: how files become subjects.

    Raises:
        NotFoundError: there is nothing of this name. UnreadableMediaError: a CSV or zip can't be read at all.
        UsageError: a CSV without the needed columns.
    """
    if path.is_dir():
        return list(_folder(path, naming))
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder")
    if path.suffix.lower() == CSV_SUFFIX:
        return list(_csv_file(path, naming))
    if path.suffix.lower() == ZIP_SUFFIX:
        archive = open_archive(path)
        return [entry.photo(naming, archive.read) for entry in list_zip(archive, naming)]
    return [Photo(file=path.name, subject=naming.of_file(path.stem), read=partial(read_bytes, path), details=naming.details)]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is none of the user's photos."""
    return name.startswith(".") or name.lower() in HIDDEN


def _folder(root: Path, naming: Naming) -> Iterator[Photo]:
    for path in _children(root):
        if path.is_dir():
            yield from _subject_folder(path, naming)
        else:
            yield Photo(file=path.name, subject=naming.of_file(path.stem), read=partial(read_bytes, path), details=naming.details)


def _subject_folder(folder: Path, naming: Naming) -> Iterator[Photo]:
    subject = naming.of_folder(folder.name)
    for path in _children(folder):
        file = f"{folder.name}/{path.name}"
        if path.is_dir():
            yield _unusable(file, subject, TOO_DEEP)
        else:
            yield Photo(file=file, subject=subject, read=partial(read_bytes, path), details=naming.details)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as err:
        raise UnreadableMediaError(f"{folder}: can't be listed: {err.strerror}; check its rights") from err


def _unusable(file: str, subject: str, words: str) -> Photo:
    """Return a photo that says why it can't be read."""

    def refuse() -> bytes:
        raise UnsupportedPhotoError(words)

    return Photo(file=file, subject=subject, read=refuse)


def _csv_file(path: Path, naming: Naming) -> Iterator[Photo]:
    if path.stat().st_size > MAX_CSV_BYTES:
        raise UnreadableMediaError(f"{path.name}: larger than {MAX_CSV_BYTES >> 20} MB; split it")
    try:
        data = path.read_bytes()
    except OSError as err:
        raise UnreadableMediaError(f"{path.name}: can't be read: {err.strerror}") from err
    for row in read_csv(data, path.name):
        entry = row.listed(naming, row.file) if row.file else Entry(file="", subject=row.subject, problem="names no file")
        yield entry.photo(naming, lambda file: read_bytes(path.parent / file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A photo of a listing, not read yet: what a job remembers of it."""

    file: str
    """As people are told it."""
    subject: str
    target: str = ""
    """By which it is read: the name in the zip, or below the folder."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it can't be read; there is no target then."""

    def photo(self, naming: Naming, read: Callable[[str], bytes]) -> Photo:
        """Return the photo to enrol; ``read`` is given the target."""
        if self.problem:
            return _unusable(self.file, self.subject, self.problem)
        given = naming.details
        details = SubjectDetails(attributes={**given.attributes, **self.attributes}, consent=given.consent, expires_at=given.expires_at)
        return Photo(file=self.file, subject=self.subject, read=partial(read, self.target), details=details)


def list_zip(archive: Archive, naming: Naming) -> Iterator[Entry]:
    """List the photos of a zip: by its one CSV, or by folders and names."""
    for problem in archive.problems:
        yield Entry(file=problem.name, subject="", problem=problem.words)
    names = [member.name for member in archive.members if not any(is_hidden(part) for part in PurePosixPath(member.name).parts)]
    tables = [name for name in names if name.lower().endswith(CSV_SUFFIX)]
    if len(tables) == 1:
        base = PurePosixPath(tables[0]).parent
        yield from list_table(read_csv(archive.read(tables[0]), tables[0]), set(names) - set(tables), naming, base=base, where="the zip")
    else:
        yield from list_names(names, naming)


def list_names(names: Sequence[str], naming: Naming) -> Iterator[Entry]:
    """List photos by where they lie: SUBJECT/photo, or flat files named after their subjects; one folder around all is looked through."""
    top = _common_top(names)
    for name in sorted(names):
        parts = PurePosixPath(name.removeprefix(top)).parts
        subject = naming.of_file(PurePosixPath(name).stem) if len(parts) == 1 else naming.of_folder(parts[0])
        if len(parts) > 2:
            yield Entry(file="/".join(parts), subject=subject, problem=TOO_DEEP)
        else:
            yield Entry(file="/".join(parts), subject=subject, target=name)


def list_table(rows: Sequence["Row"], names: Set[str], naming: Naming, *, base: PurePosixPath, where: str) -> Iterator[Entry]:
    """List the rows of a CSV whose photos lie beside it.

    Args:
        rows: of the CSV.
        names: all photos there are.
        naming: how files become subjects.
        base: the folder of the CSV among the names.
        where: what holds the photos, for people.
    """
    for row in rows:
        target = str(base / row.file) if row.file else ""
        if target in names:
            yield row.listed(naming, target)
        else:
            yield Entry(file=row.file, subject=row.subject, problem=f"is not in {where}" if row.file else "names no file")


def _common_top(names: Sequence[str]) -> str:
    """Return the one folder that wraps all subjects' folders ("people/"), or nothing."""
    tops = {PurePosixPath(name).parts[0] for name in names}
    wrapped = len(tops) == 1 and any(len(PurePosixPath(name).parts) > 2 for name in names)
    return f"{tops.pop()}/" if wrapped else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a CSV."""

    file: str
    subject: str
    attributes: dict[str, Any]
    problem_words: str = ""

    def listed(self, naming: Naming, target: str) -> Entry:
        """Return this row as a photo of a listing."""
        if self.problem_words:
            return Entry(file=self.file, subject=self.subject, problem=self.problem_words)
        subject = naming.subject or self.subject or naming.of_file(PurePosixPath(self.file.replace("\\", "/")).stem)
        return Entry(file=self.file, subject=subject, target=target, attributes=self.attributes)


def read_csv(data: bytes, name: str) -> list[Row]:
    """Read a table with the columns file, and where given subject, name and attributes; commas, semicolons or tabs between them.

    ``subject`` is the unique name under which a person is enrolled (without it: ``name``, then the file's); a ``name`` beside it is kept
    as the attribute ``name``. ``attributes`` is a JSON object or ``key=value;key=value``.

    Raises:
        UnreadableMediaError: it is no text. UsageError: the column ``file`` is missing.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise UnreadableMediaError(f"{name}: is not UTF-8 text (byte {err.start}); save it as CSV UTF-8") from err
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restkey="", restval="")
    try:
        columns = [str(column).strip().lower() for column in reader.fieldnames or ()]
        if "file" not in columns:
            raise UsageError(f"{name}: has no column 'file'; its first line must name the columns {', '.join(CSV_COLUMNS)}")
        reader.fieldnames = columns
        return [_row({key: value for key, value in row.items() if isinstance(value, str)}) for row in reader]
    except csv.Error as err:
        raise UnreadableMediaError(f"{name}: line {reader.line_num}: {err}; save it as CSV anew") from err


def _row(cells: dict[str, str]) -> Row:
    file, subject, name = (cells.get(column, "").strip() for column in CSV_COLUMNS[:3])
    try:
        attributes = parse_attributes(cells.get("attributes", ""))
    except UsageError as err:
        return Row(file=file, subject=subject or name, attributes={}, problem_words=str(err))
    if subject and name and name != subject:
        attributes = {"name": name, **attributes}
    words = "its path holds a NUL" if "\x00" in file else ""
    return Row(file=file, subject=subject or name, attributes=attributes, problem_words=words)


def parse_attributes(text: str) -> dict[str, Any]:
    """Read ``{"key": value}`` or ``key=value;key=value``.

    Raises:
        UsageError: it is neither.
    """
    text = text.strip()
    if not text:
        return {}
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as err:
            raise UsageError(f"attributes: not a JSON object: {err}") from err
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    if any(not sign or not key.strip() for key, sign, _ in pairs):
        raise UsageError(f"attributes: '{text[:60]}' is neither JSON nor key=value;key=value")
    return {key.strip(): value.strip() for key, _, value in pairs}
