from pathlib import Path

import pytest

from tcmu_runner.kernel.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.under(tmp_path)
