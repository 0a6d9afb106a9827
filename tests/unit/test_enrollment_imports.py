"""enrollment.imports: which photo is whose, and what hostile zips and tables come to."""

import io
import zipfile
from pathlib import Path

import pytest

from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.photo import UnsupportedPhotoError
from enrollment import archive
from enrollment.imports import Naming, list_photos, parse_attributes, read_csv
from enrollment.record import Photo, SubjectDetails


def names(photos: list[Photo]) -> list[tuple[str, str]]:
    return [(photo.file, photo.subject) for photo in photos]


def write(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return root


def zipped(path: Path, files: dict[str, bytes], **options: object) -> Path:
    with zipfile.ZipFile(path, "w", **options) as out:  # type: ignore[arg-type]
        for name, data in files.items():
            out.writestr(name, data)
    return path


def test_folder_per_subject_and_flat_files_together(tmp_path: Path) -> None:
    root = write(tmp_path, "ann/1.jpg", "ann/2.png", "bob lee/x", "alex-lacamoire.png", "ann_1.jpg")
    assert names(list_photos(root, Naming())) == [
        ("alex-lacamoire.png", "alex-lacamoire"),
        ("ann/1.jpg", "ann"),
        ("ann/2.png", "ann"),
        ("ann_1.jpg", "ann_1"),
        ("bob lee/x", "bob lee"),
    ]


def test_photos_are_read_later(tmp_path: Path) -> None:
    (photo,) = list_photos(write(tmp_path, "ann.jpg"), Naming())
    assert photo.read() == b"ann.jpg"


def test_numbered_files_are_one_subject_when_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path, "ann_1.jpg", "ann-2.jpg", "ann (3).jpg", "bob/x_1.jpg", "x_1/a.jpg")
    assert names(list_photos(root, Naming(numbered=True))) == [
        ("ann (3).jpg", "ann"),
        ("ann-2.jpg", "ann"),
        ("ann_1.jpg", "ann"),
        ("bob/x_1.jpg", "bob"),
        ("x_1/a.jpg", "x_1"),
    ]


def test_one_subject_for_all(tmp_path: Path) -> None:
    root = write(tmp_path, "a.jpg", "b/c.jpg")
    assert names(list_photos(root, Naming(subject="ann"))) == [("a.jpg", "ann"), ("b/c.jpg", "ann")]


def test_single_file(tmp_path: Path) -> None:
    write(tmp_path, "ann.jpg")
    assert names(list_photos(tmp_path / "ann.jpg", Naming())) == [("ann.jpg", "ann")]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    root = write(tmp_path, ".DS_Store", "ann/.x.jpg", "ann/Thumbs.db", "__MACOSX/ann/1.jpg", ".git/x", "ann/1.jpg")
    assert names(list_photos(root, Naming())) == [("ann/1.jpg", "ann")]


def test_deeper_folders_are_reported(tmp_path: Path) -> None:
    (photo,) = list_photos(write(tmp_path, "ann/2024/1.jpg"), Naming())
    assert photo.file == "ann/2024"
    with pytest.raises(UnsupportedPhotoError, match="only SUBJECT/photo is read, so move its photos up"):
        photo.read()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nobody: no such file or folder"):
        list_photos(tmp_path / "nobody", Naming())


def test_csv_with_paths_relative_to_itself(tmp_path: Path) -> None:
    write(tmp_path, "in/a.jpg", "b.jpg")
    (tmp_path / "in" / "people.csv").write_text(
        "file,subject,name,attributes\n"
        'a.jpg,e17,Ann Lee,"{""floor"": 3}"\n'
        "../b.jpg,,Bob,team=red;desk=12\n"
        "c_1.jpg,,,\n"
        ",x,,\n"
        "d.jpg,d,,{broken\n"
    )
    photos = list_photos(tmp_path / "in" / "people.csv", Naming(details=SubjectDetails(attributes={"site": "x", "team": "blue"})))
    assert names(photos) == [("a.jpg", "e17"), ("../b.jpg", "Bob"), ("c_1.jpg", "c_1"), ("", "x"), ("d.jpg", "d")]
    assert photos[0].details.attributes == {"site": "x", "team": "blue", "name": "Ann Lee", "floor": 3}
    assert photos[1].details.attributes == {"site": "x", "team": "red", "desk": "12"}
    assert photos[0].read() == b"in/a.jpg"
    assert photos[1].read() == b"b.jpg"
    with pytest.raises(NotFoundError):
        photos[2].read()
    with pytest.raises(UnsupportedPhotoError, match="names no file"):
        photos[3].read()
    with pytest.raises(UnsupportedPhotoError, match="attributes: not a JSON object"):
        photos[4].read()


@pytest.mark.parametrize("text", ["File;Subject\na;b\n", "\ufefffile\tsubject\r\na\tb\r\n", 'subject,FILE\n"b","a"\n'])
def test_csv_dialects(text: str) -> None:
    assert [(row.file, row.subject) for row in read_csv(text.encode(), "x.csv")] == [("a", "b")]


def test_csv_that_is_none() -> None:
    with pytest.raises(
        UsageError, match=r"x.csv: has no column 'file'; its first line must name the columns file, subject, name, attributes"
    ):
        read_csv(b"who,what\n", "x.csv")
    with pytest.raises(UsageError, match=r"has no column 'file'"):
        read_csv(b"", "x.csv")
    with pytest.raises(UnreadableMediaError, match=r"x.csv: is not UTF-8 text"):
        read_csv(b"file\n\xff\xfe", "x.csv")
    with pytest.raises(UnreadableMediaError, match=r"x.csv: line"):
        read_csv(b"file\n" + b"a" * 200_000, "x.csv")


@pytest.mark.parametrize(
    ("text", "expected"), [("", {}), ("a=1", {"a": "1"}), (" a = b ; c=d=e; ", {"a": "b", "c": "d=e"}), ('{"a": [1]}', {"a": [1]})]
)
def test_attributes(text: str, expected: dict[str, object]) -> None:
    assert parse_attributes(text) == expected


def test_zip_of_folders(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"ann/1.jpg": b"1", "bob/2.jpg": b"2", "cyd.jpg": b"3", "__MACOSX/ann/._1.jpg": b"x", "ann/": b""})
    photos = list_photos(path, Naming())
    assert names(photos) == [("ann/1.jpg", "ann"), ("bob/2.jpg", "bob"), ("cyd.jpg", "cyd")]
    assert [photo.read() for photo in photos] == [b"1", b"2", b"3"]


def test_zip_with_one_wrapping_folder(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"people/ann/1.jpg": b"1", "people/bob.jpg": b"2"})
    assert names(list_photos(path, Naming())) == [("ann/1.jpg", "ann"), ("bob.jpg", "bob")]


def test_zip_with_a_table(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"in/people.csv": b"file,subject\nx/1.jpg,ann\n../2.jpg,bob\n/etc/passwd,eve\n", "in/x/1.jpg": b"1"})
    photos = list_photos(path, Naming())
    assert names(photos) == [("x/1.jpg", "ann"), ("../2.jpg", "bob"), ("/etc/passwd", "eve")]
    assert photos[0].read() == b"1"
    for photo in photos[1:]:
        with pytest.raises(UnsupportedPhotoError, match="is not in the zip"):
            photo.read()


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg", "a\\..\\evil.jpg"])
def test_zip_with_unsafe_names(tmp_path: Path, name: str) -> None:
    (photo,) = list_photos(zipped(tmp_path / "x.zip", {name: b"x"}), Naming())
    with pytest.raises(UnsupportedPhotoError, match="has an unsafe name; make the zip from a plain folder"):
        photo.read()


def test_zip_in_zip(tmp_path: Path) -> None:
    (photo,) = list_photos(zipped(tmp_path / "x.zip", {"ann/inner.zip": b"PK"}), Naming())
    with pytest.raises(UnsupportedPhotoError, match="is an archive inside the zip; unpack it first"):
        photo.read()


def test_zip_bombs(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "x.zip", {"a.jpg": bytes(80 << 20), "b.jpg": bytes(16 << 20)}, compression=zipfile.ZIP_DEFLATED, compresslevel=9
    )
    first, second = list_photos(path, Naming())
    with pytest.raises(UnsupportedPhotoError, match="is larger than 64 MB"):
        first.read()
    with pytest.raises(UnsupportedPhotoError, match="like a zip bomb"):
        second.read()


def test_zip_whose_header_lies_about_a_size(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.jpg": bytes(2 << 20)}, compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    size = (2 << 20).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    (photo,) = list_photos(path, Naming())
    with pytest.raises(UnreadableMediaError, match=r"a.jpg: damaged in the zip"):
        photo.read()


def test_damaged_zips(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "x.zip", {f"{n}.jpg": b"x" * 100 for n in range(5)}).read_bytes()
    for data in (b"", b"PK\x03\x04", whole[:200], whole[:-10], b"\x00" * 500):
        (tmp_path / "y.zip").write_bytes(data)
        with pytest.raises(UnreadableMediaError, match=r"y.zip: can't be read as a zip"):
            list_photos(tmp_path / "y.zip", Naming())


def test_zip_with_too_many_members(tmp_path: Path) -> None:
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as out:
        for number in range(archive.MAX_MEMBERS + 1):
            out.writestr(zipfile.ZipInfo(f"{number}"), b"")
    (tmp_path / "x.zip").write_bytes(many.getvalue())
    with pytest.raises(UnreadableMediaError, match=r"x.zip: has 100001 members, at most 100000 are read; split it"):
        list_photos(tmp_path / "x.zip", Naming())
