"""The C daemon's settings file: we understand what it understands, and say so where it goes astray."""

from pathlib import Path

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.settings.tcmu_conf import TcmuConf, parse

# The file that Debian's tcmu-runner 1.5.4 installs, in short.
AS_PACKAGED = """#
# The log_level option: 0 ... 5
# log_level = 3

# The default log_dir is /var/log
# log_dir = "/var/log"
"""


def test_what_is_commented_out_says_nothing() -> None:
    assert parse(AS_PACKAGED) == parse("") == TcmuConf()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("log_level = 4", TcmuConf(4)),
        ("  log_level=4  \r\n", TcmuConf(4)),
        ("log_level = 4 # debug", TcmuConf(4)),  # of a number the first digits count
        ("log_level = level 2", TcmuConf(2)),
        ("log_level = 9", TcmuConf(5)),
        ("log_level = 0\nlog_level = 1", TcmuConf(1)),  # the last one counts
        ('log_dir = "/srv/log"', TcmuConf(None, Path("/srv/log"))),
        ("log_dir='/srv/my log'", TcmuConf(None, Path("/srv/my log"))),
        ("\t# log_level = 1\n\nlog_level = 2", TcmuConf(2)),
    ],
)
def test_it_is_read_as_the_c_daemon_reads_it(text: str, found: TcmuConf) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nlog_level = high", r"^line 2: log_level = high: write a number from 0 \(critical\) to 5"),
        ("log_level", "^line 1: log_level = : write a number"),
        (
            "log_dir = /var/log",
            "^line 1: log_dir = /var/log: write an absolute path in quotes: log_dir",
        ),
        ('log_dir = "log"', "absolute path"),
        ("#\n= 4", "^line 2: '= 4' is no setting: write NAME = VALUE, or # before it"),
        ("<<<<<<< HEAD", "is no setting"),  # on which the C daemon would spin for ever
    ],
)
def test_a_mistake_is_told_with_line_and_remedy(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(text)


def test_what_has_no_effect_is_named() -> None:
    conf = parse("loglevel = 4\ndynamic")
    assert conf.unknown == (
        "line 1: loglevel has no effect; there are log_level and log_dir",
        "line 2: dynamic has no effect; there are log_level and log_dir",
    )
