"""A process that runs jobs of a data folder until it is killed: ``python -m tests.builders.job_process DATA_DIR LEASE_S``."""

import asyncio
import sys
from importlib.resources import files
from pathlib import Path

from core.adapters.object_store import open_object_store
from core.adapters.postgres import open_database
from core.settings import StorageSettings
from tests.builders.jobs import open_runner


async def main(data_dir: Path, lease_s: float) -> None:
    async with open_database("embedded:", data_dir=data_dir, migrations=files("deploy") / "migrations") as db:
        objects = open_object_store(StorageSettings(), data_dir=data_dir, vault=db.vault)
        async with open_runner(db, data_dir, objects=objects, lease_s=lease_s) as runner:
            print(f"runner {runner.runner_id}", flush=True)  # noqa: T201 - the test reads it
            await runner.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
