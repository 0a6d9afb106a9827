"""Which operating-system account the embedded PostgreSQL runs under. Only matters for root: PostgreSQL refuses to run as root.

A process started by root (containers, fresh machines) hands the server to an unprivileged account. That account must be able to
walk to the data folder and to the installed binaries. Rights are widened as little as possible: the server joins the groups of
the folders on the way, and only a folder closed to its own group too gets its group's search bit.
"""

import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import structlog

from core.errors import UnavailableError

ACCOUNTS = ("sightline", "postgres", "nobody")
"""Tried in this order when root makes a new database. ``initdb`` needs an account with an entry in the password file."""

_log = structlog.get_logger(__name__)


class RunAs(TypedDict, total=False):
    """Keyword arguments of ``subprocess.Popen``; empty when the process keeps its own account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An unprivileged account, with the groups it needs to reach its files."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def run_as(self) -> RunAs:
        """Return what makes ``subprocess`` start a child under this account."""
        return RunAs(user=self.uid, group=self.gid, extra_groups=list(self.groups))


def choose_account(cluster: Path) -> Account | None:
    """Return the account to run the server under, or None to keep our own.

    Args:
        cluster: the server's data folder; need not exist yet.

    Raises:
        UnavailableError: when the folder belongs to somebody else, or root finds no account to hand the server to.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            us = os.geteuid()
            raise UnavailableError(
                f"database: {cluster} belongs to user id {owner}, this process runs as {us}; run as that user, or chown it"
            )
        return None
    if owner:
        return Account(uid=owner, gid=cluster.stat().st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise UnavailableError(
        f"database: PostgreSQL refuses to run as root, and no account {' or '.join(ACCOUNTS)} exists; run as a normal user"
    )


def open_the_way(account: Account, targets: Iterable[Path]) -> Account:
    """Let the account walk to the targets and return it with the groups that this takes.

    A folder on the way that others may not search is reached through its group; the group's search bit is set where it lacks,
    and each such change is logged.
    """
    folders = {folder for target in targets for folder in target.resolve().parents}
    status = {folder: folder.stat() for folder in folders}
    groups = {account.gid, *account.groups}
    groups |= {s.st_gid for s in status.values() if not s.st_mode & stat.S_IXOTH and s.st_uid != account.uid}
    for folder, s in sorted(status.items()):
        if s.st_gid in groups and s.st_uid != account.uid and not s.st_mode & stat.S_IXGRP:
            folder.chmod(stat.S_IMODE(s.st_mode) | stat.S_IXGRP)
            _log.info("folder opened to its group, for the database server", folder=str(folder), account=account.uid)
    return Account(uid=account.uid, gid=account.gid, groups=tuple(sorted(groups)))


def give_tree(account: Account, root: Path) -> None:
    """Make the account the owner of a folder and of all in it."""
    for folder, _, files in os.walk(root):
        os.chown(folder, account.uid, account.gid)
        for name in files:
            os.chown(Path(folder) / name, account.uid, account.gid, follow_symlinks=False)


def make_readable(root: Path) -> None:
    """Let every account read a tree and run what its owner may run (an installation made with a tight umask)."""
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if path.is_symlink():
                continue
            path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
