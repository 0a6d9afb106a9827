"""One fleet for all fault tests of a session: starting it takes longer than a scene."""

from collections.abc import Iterator

import pytest

from tests.builders.stage import Stage
from tests.conftest import FACTS


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stage]:
    with Stage.open(tmp_path_factory.mktemp("fleet")) as opened:
        for kind in ("kafka", "rabbitmq", "postgres"):
            pytestconfig.stash[FACTS][kind] = f"{kind} {opened.servers.version(kind)} local process"
        yield opened
