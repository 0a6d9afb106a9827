"""PostgreSQL behind core.ports.Database: a small pool, a time limit on every call, our errors. The only importer of asyncpg."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
import structlog

from core.adapters.embedded_postgres import SUPERUSER, EmbeddedServer
from core.adapters.migrations import migrate
from core.adapters.sealed import check_keys
from core.errors import ConflictError, SettingsError, UnavailableError, UsageError
from core.ports import Database
from core.secrets import open_vault
from core.vault import Vault

EMBEDDED_URL: Final = "embedded:"
POOL_SIZE: Final = 6  # two cores: more connections only wait for each other
CONNECT_TIMEOUT_S: Final = 10.0
CALL_TIMEOUT_S: Final = 30.0
MIGRATION_TIMEOUT_S: Final = 600.0
CLOSE_TIMEOUT_S: Final = 5.0
STREAM_ROWS: Final = 500  # rows of 512 floats: 1 MB in flight
LISTEN_QUEUE: Final = 1024
LISTEN_PING_S: Final = 30.0  # a half-open connection is noticed within this time
_SESSION_SETTINGS: Final = {"application_name": "sightline", "timezone": "UTC", "jit": "off"}

Connect = Callable[[], Awaitable[Any]]
_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_database(
    url: str, *, data_dir: Path, migrations: Traversable, pool_size: int = POOL_SIZE, vault: Vault | None = None
) -> AsyncIterator[Database]:
    """Open the database, bring its schema up to this release, and close it at the end.

    Args:
        url: ``embedded:`` for a PostgreSQL of our own in ``data_dir/postgres`` (shared by the processes that use the folder), or
            ``postgresql://user:password@host/name``.
        data_dir: the data folder; made if absent.
        migrations: the folder of ``NNNN_name.sql`` files.
        pool_size: connections at most, opened when needed; one that listens comes on top.
        vault: keys of what is sealed in the database; None = those in the data folder.

    Raises:
        SettingsError: the URL is neither, or the database is sealed with other keys. UnavailableError: no server.
        ConflictError: the schema is newer, or was edited.
    """
    async with _embedded(data_dir) if url == EMBEDDED_URL else _remote(url) as connect:
        pool = await _open_pool(connect, pool_size)
        try:
            keys = await asyncio.to_thread(open_vault, data_dir) if vault is None else vault
            for migration in await migrate(_Pooled(pool, connect, keys, timeout_s=MIGRATION_TIMEOUT_S), migrations):
                _log.info("database migrated", number=migration.number, name=migration.name)
            db = _Pooled(pool, connect, keys, timeout_s=CALL_TIMEOUT_S)
            await check_keys(db)
            yield db
        finally:
            await _close_pool(pool)


@asynccontextmanager
async def _embedded(data_dir: Path) -> AsyncIterator[Connect]:
    """Start or join the server of the data folder; yield how to connect, which brings the server back if it died."""
    server = EmbeddedServer(data_dir)
    one_at_a_time = asyncio.Lock()

    async def start() -> str:
        async with one_at_a_time:
            return str(await asyncio.to_thread(server.start))

    async def connect() -> Any:
        try:
            return await _connect(host=host, user=SUPERUSER, database="postgres")
        except UnavailableError:
            _log.warning("database server is gone, starting it again")
            return await _connect(host=await start(), user=SUPERUSER, database="postgres")

    try:
        host = await start()
        yield connect
    finally:
        await asyncio.to_thread(server.leave)


@asynccontextmanager
async def _remote(url: str) -> AsyncIterator[Connect]:
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise SettingsError(
            f"database_url: {parts.scheme or 'it'}: is no database we know; use embedded: or postgresql://user:password@host/name"
        )
    yield lambda: _connect(dsn=url)


async def _connect(**where: Any) -> Any:
    """Open one connection, with JSON as Python values."""
    with _our_errors("can't connect"):
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await asyncpg.connect(**where, server_settings=_SESSION_SETTINGS)
            for json_type in ("json", "jsonb"):
                await connection.set_type_codec(
                    json_type, schema="pg_catalog", encoder=lambda value: msgspec.json.encode(value).decode(), decoder=msgspec.json.decode
                )
            return connection


async def _open_pool(connect: Connect, size: int) -> Any:
    async def adapted(*_args: Any, **_kwargs: Any) -> Any:
        return await connect()

    async def as_it_is(_connection: Any) -> None:
        """Reset nothing: transactions end in their block, and no call of ours changes its session. Saves a round trip a call."""

    return await asyncpg.create_pool(min_size=1, max_size=size, connect=adapted, reset=as_it_is)


async def _close_pool(pool: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await pool.close()
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pool.terminate()


class _Session(ABC):
    """What the pool and a transaction have in common: SQL on a connection, in time, with our errors."""

    def __init__(self, timeout_s: float, vault: Vault) -> None:
        self._timeout_s = timeout_s
        self._vault = vault

    @property
    def vault(self) -> Vault:
        """The keys of what is sealed in it."""
        return self._vault

    @abstractmethod
    def _connection(self) -> AbstractAsyncContextManager[Any]:
        """Lend a connection."""

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[Any]:
        async with self._connection() as connection:
            with _our_errors("no answer"):
                async with asyncio.timeout(self._timeout_s):
                    yield connection

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """Run a query and return its rows; uuid columns come as ``uuid.UUID``, jsonb as Python values."""
        async with self._call() as connection:
            return [dict(row) for row in await connection.fetch(sql, *args)]

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement (without arguments: any number of statements) and return the number of rows that the last one touched."""
        async with self._call() as connection:
            count = (await connection.execute(sql, *args)).rpartition(" ")[2]
            return int(count) if count.isdecimal() else 0

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row, all or none."""
        async with self._call() as connection:
            await connection.executemany(sql, rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Database]:
        """Open a transaction (inside another one: a savepoint); an exception rolls it back."""
        async with self._connection() as connection:
            transaction = connection.transaction()
            async with self._in_time():
                await transaction.start()
            try:
                yield _InTransaction(connection, self, timeout_s=self._timeout_s)
            except BaseException:  # whatever ends the block, a cancellation too, takes back what it did, and goes on
                with contextlib.suppress(UnavailableError, asyncpg.InterfaceError):
                    async with self._in_time():
                        await transaction.rollback()
                raise
            async with self._in_time():
                await transaction.commit()

    async def stream(self, sql: str, *args: Any) -> AsyncIterator[dict[str, Any]]:
        """Iterate over a large result of one snapshot; holds a connection until the iterator ends or is closed (``aclosing``)."""
        async with self._connection() as connection:
            transaction = connection.transaction(**self._snapshot())
            async with self._in_time():
                await transaction.start()
            try:
                async with self._in_time():
                    cursor = await connection.cursor(sql, *args)
                while True:
                    async with self._in_time():
                        rows = await cursor.fetch(STREAM_ROWS)
                    for row in rows:
                        yield dict(row)
                    if len(rows) < STREAM_ROWS:
                        break
            finally:
                with contextlib.suppress(UnavailableError, asyncpg.InterfaceError):
                    async with self._in_time():
                        await transaction.rollback()  # it only read

    def _snapshot(self) -> dict[str, Any]:
        return {}

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        with _our_errors("no answer"):
            async with asyncio.timeout(self._timeout_s):
                yield


class _Pooled(_Session):
    """The database: each call takes a connection from the pool. Thread rule: the loop that opened it."""

    def __init__(self, pool: Any, connect: Connect, vault: Vault, *, timeout_s: float) -> None:
        super().__init__(timeout_s, vault)
        self._pool = pool
        self._connect = connect

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        async with self._in_time():
            connection = await self._pool.acquire()
        try:
            yield connection
        finally:
            with contextlib.suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self._pool.release(connection, timeout=CLOSE_TIMEOUT_S)

    def _snapshot(self) -> dict[str, Any]:
        return {"isolation": "repeatable_read", "readonly": True}

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        """Receive the payloads of NOTIFY on a channel, on a connection of its own.

        The iterator ends when the connection is lost or the reader falls LISTEN_QUEUE payloads behind: listen again, then read
        the state again.
        """
        connection = await self._connect()
        payloads: asyncio.Queue[str | None] = asyncio.Queue(LISTEN_QUEUE)

        def end() -> None:
            if payloads.full():
                payloads.get_nowait()
            payloads.put_nowait(None)

        def receive(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            if payloads.qsize() < LISTEN_QUEUE - 1:
                payloads.put_nowait(payload)
            else:
                end()

        connection.add_termination_listener(lambda _connection: end())
        try:
            async with self._in_time():
                await connection.add_listener(channel, receive)
            yield _payloads(connection, payloads)
        finally:
            connection.terminate()


class _InTransaction(_Session):
    """The database inside a transaction: one connection, one call at a time."""

    def __init__(self, connection: Any, outer: _Session, *, timeout_s: float) -> None:
        super().__init__(timeout_s, outer.vault)
        self._held = connection
        self._outer = outer

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        yield self._held

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Listen outside the transaction: notifications know no rollback of the listener."""
        return self._outer.listen(channel)  # type: ignore[attr-defined, no-any-return]


async def _payloads(connection: Any, payloads: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    """Yield payloads until the end mark; asks the server for a sign of life when nothing comes."""
    while True:
        try:
            async with asyncio.timeout(LISTEN_PING_S):
                payload = await payloads.get()
        except TimeoutError:
            if not await _alive(connection):
                return
            continue
        if payload is None:
            return
        yield payload


async def _alive(connection: Any) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.fetchval("select 1")
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False
    return True


@contextlib.contextmanager
def _our_errors(problem: str) -> Iterator[None]:
    """Turn asyncpg's errors into ours; a mistake in our own SQL stays what it is."""
    try:
        yield
    except TimeoutError as err:
        raise UnavailableError(f"database: {problem} in time; is the server overloaded or cut off? Retrying may help") from err
    except asyncpg.IntegrityConstraintViolationError as err:
        raise ConflictError(f"database: {err.detail or err.message}") from err
    except asyncpg.DataError as err:
        raise UsageError(f"database: a value can't be stored: {str(err).splitlines()[0]}") from err
    except asyncpg.InvalidAuthorizationSpecificationError as err:
        raise UnavailableError(f"database: {err.message}; check user and password in database_url") from err
    except (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError) as err:
        raise UnavailableError(f"database: {err.message}; check its disk space and limits") from err
    except _LOST as err:
        cause = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise UnavailableError(f"database: {problem}: {cause}; is the server up?") from err
    except asyncpg.InterfaceError as err:
        if isinstance(err, ValueError):  # asyncpg's own class for arguments that do not fit
            raise UsageError(f"database: a value can't be stored: {str(err).splitlines()[0]}") from err
        if "clos" not in str(err):  # "connection is closed", "pool is closing"
            raise
        raise UnavailableError(f"database: {problem}: {err}; is the server up?") from err


_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidCatalogNameError,
)
