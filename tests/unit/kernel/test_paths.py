from pathlib import Path

from tcmu_runner.kernel.paths import SYSTEM, Paths


def test_under_the_root_directory_is_the_system() -> None:
    assert Paths.under(Path("/")) == SYSTEM


def test_under_another_root_nothing_of_the_system_is_left(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    for name in Paths.__slots__:
        assert getattr(paths, name).relative_to(tmp_path) == getattr(SYSTEM, name).relative_to("/")
