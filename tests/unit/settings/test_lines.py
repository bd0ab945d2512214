"""On which line of a TOML file a setting begins."""

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.settings.lines import SettingError, about, line_of

TEXT = """\
# workers
[workers]
processes = 4

# a comment
user = "tcmu"

[stacks.vault]
handler = "file"
filters = [
    { filter = "readonly" },
    { filter = "stats" },
]
description = "after"

[devices."user_0/a.b"]
vendor = "ACME"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("workers",), 2),
        (("workers", "processes"), 3),
        (("workers", "user"), 6),
        (("stacks", "vault"), 8),
        (("stacks", "vault", "filters"), 10),
        (("stacks", "vault", "description"), 14),
        (("devices", "user_0/a.b", "vendor"), 17),
        (("absent",), 1),
    ],
)
def test_the_line_a_setting_begins_on(path: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, path) == line


def test_the_more_exact_setting_is_told() -> None:
    with pytest.raises(SettingError, match="why") as caught, about("outer"), about("outer", "inner"):
        raise ConfigError("why")
    assert caught.value.path == ("outer", "inner")
