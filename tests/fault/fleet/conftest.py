"""One fleet for all fault tests of a session: starting it takes longer than a scene."""

from collections.abc import Iterator

import pytest

from tests.builders.stage import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage.open(tmp_path_factory.mktemp("fleet")) as opened:
        yield opened
