"""Config strings: what the kernel and LIO's tools do to them, and what the C daemon's users write."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.config import (
    ConfigString,
    Late,
    Number,
    escape_addresses,
    parse_options,
    split,
    unescape_address,
)


@pytest.mark.parametrize(
    ("text", "subtype", "rest"),
    [
        ("file//srv/disk.img", "file", "/srv/disk.img"),
        ("ram/", "ram", ""),
        ("rbd/pool/image;osd_op_timeout=30;conf=/etc/ceph/a.conf", "rbd",
         "pool/image;osd_op_timeout=30;conf=/etc/ceph/a.conf"),
        ("file//srv/disk.img\n", "file", "/srv/disk.img"),  # echo into attrib/dev_config
        ("glfs/vol@192.0.2.1/block-store/0f5d", "glfs", "vol@192.0.2.1/block-store/0f5d"),
        ("file//srv/päth", "file", "/srv/päth"),
        ("file//srv/\udcff.img", "file", "/srv/\udcff.img"),  # a file name that is not UTF-8
        ("file//srv/a;", "file", "/srv/a;"),
    ],
)  # fmt: skip
def test_split(text: str, subtype: str, rest: str) -> None:
    assert split(text) == ConfigString(subtype, rest, time_out=None)


@pytest.mark.parametrize(
    ("character", "why"),
    [
        (",", "the kernel ends the string there"),
        ("\0", "the kernel ends the string there"),
        (":", "LIO's tools refuse it"),
        (" ", "white space"),
        ("\t", "white space"),
        ("\n", "white space"),
        ("\u00a0", "white space"),
        ("\x1b", "control characters"),
        ("\x7f", "control characters"),
    ],
)
def test_what_is_garbled_on_the_way_is_refused(character: str, why: str) -> None:
    """`/tmp/a,b` would silently serve `/tmp/a`: other data than the administrator meant."""
    with pytest.raises(ConfigError, match=f"{why}.*: rename the path without it") as error:
        split(f"file//tmp/a{character}b")
    assert repr(character) in str(error.value)


def test_length_is_the_kernels() -> None:
    """struct tcmu_dev holds 256 bytes with the ending NUL; the kernel cuts what is longer without a word."""
    longest = "file//" + "x" * 249
    assert split(longest).rest == longest[5:]
    with pytest.raises(
        ConfigError, match="has 256 bytes, the kernel would cut it at 255: use a shorter path"
    ):
        split(longest + "x")


def test_length_is_in_bytes() -> None:
    assert split("file//" + "\udcff" * 249).subtype == "file"
    with pytest.raises(ConfigError, match="has 256 bytes"):
        split("file//" + "ä" * 125)


def test_a_newline_does_not_count() -> None:
    assert len(split("file//" + "x" * 249 + "\n").rest) == 250


@pytest.mark.parametrize("text", ["", "file", "/srv/disk.img", "\n", "/"])
def test_a_handler_has_to_be_named(text: str) -> None:
    with pytest.raises(ConfigError, match="names no handler: write HANDLER/CONFIG, for example file//srv"):
        split(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not text"):
        split("file//\ud800")


@pytest.mark.parametrize(
    ("text", "rest", "time_out"),
    [
        # as gluster-block writes it (ecosystem: io-timeout), and with the C daemon's closing ';'
        ("glfs/vol@host/dir/id;tcmur_cmd_time_out=130", "vol@host/dir/id", 130),
        ("glfs/vol@host/dir/id;tcmur_cmd_time_out=130;", "vol@host/dir/id", 130),
        # before the path: the C daemon takes away both semicolons
        ("file/;tcmur_cmd_time_out=30;/srv/a", "/srv/a", 30),
        ("file/tcmur_cmd_time_out=30;/srv/a", "/srv/a", 30),
        ("file/;tcmur_cmd_time_out=30;/srv/a;direct", "/srv/a;direct", 30),
        # between options: the C daemon would join the options around it into one
        ("rbd/p/i;tcmur_cmd_time_out=5;osd_op_timeout=30", "p/i;osd_op_timeout=30", 5),
        ("rbd/p/i;osd_op_timeout=30;tcmur_cmd_time_out=5;conf=/c", "p/i;osd_op_timeout=30;conf=/c", 5),
        ("ram/;tcmur_cmd_time_out=7", "", 7),
        ("ram/tcmur_cmd_time_out=7", "", 7),
        ("file//a;tcmur_cmd_time_out=0", "/a", None),  # 0 is the C daemon's way to say never
        ("file//a;tcmur_cmd_time_out=1;tcmur_cmd_time_out=2", "/a", 2),  # the last one counts there, too
        # a part of a path or of another option's name or value is no option of ours
        ("file//srv/tcmur_cmd_time_out=3/disk", "/srv/tcmur_cmd_time_out=3/disk", None),
        ("file//a;x-tcmur_cmd_time_out=3", "/a;x-tcmur_cmd_time_out=3", None),
        ("file//a;tcmu_cmd_time_out=3", "/a;tcmu_cmd_time_out=3", None),
    ],
)
def test_time_out(text: str, rest: str, time_out: int | None) -> None:
    parts = split(text)
    assert (parts.rest, parts.time_out) == (rest, time_out)


@pytest.mark.parametrize("late", Late)
def test_what_happens_with_late_commands(late: Late) -> None:
    parts = split(f"file//srv/a;tcmur_cmd_time_out=5;tcmur_late={late.value};direct")
    assert parts == ConfigString("file", "/srv/a;direct", 5, late)


def test_no_such_way_with_late_commands() -> None:
    with pytest.raises(ConfigError, match="tcmur_late=never: there are log, busy, abort, restart"):
        split("file//srv/a;tcmur_cmd_time_out=5;tcmur_late=never")


def test_no_command_is_ever_late_without_a_time() -> None:
    with pytest.raises(ConfigError, match="has no effect: add tcmur_cmd_time_out=30"):
        split("file//srv/a;tcmur_late=busy")


@pytest.mark.parametrize("value", ["", "ten", "-1", "1.5", "²", "30s"])
def test_time_out_that_is_no_number(value: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a number of seconds: write tcmur_cmd_time_out=30"):
        split(f"file//a;tcmur_cmd_time_out={value}")


@given(st.text(max_size=300))
def test_any_string_is_split_or_refused(text: str) -> None:
    try:
        parts = split(text)
    except ConfigError as error:
        assert str(error)
    else:
        assert parts.subtype and "/" not in parts.subtype


# -- options -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    path: str
    direct: bool = False
    cache: int = 4096
    user_id: str = "admin"
    timeout: int | None = None
    conf: str | None = None


def test_options() -> None:
    parsed = parse_options(Options, "/a;direct;cache=2M;user-id=joe;timeout=30;conf=/etc/c")
    assert parsed == Options("/a", direct=True, cache=2097152, user_id="joe", timeout=30, conf="/etc/c")


@pytest.mark.parametrize("text", ["/a", "/a;", "/a;;"])
def test_options_have_their_defaults(text: str) -> None:
    assert parse_options(Options, text) == Options("/a")


def test_a_value_keeps_its_equals_signs() -> None:
    assert parse_options(Options, "/a=b;conf=x=y") == Options("/a=b", conf="x=y")


@pytest.mark.parametrize(
    ("value", "meant"),
    [("1", True), ("yes", True), ("on", True), ("True", True), ("0", False), ("no", False), ("off", False),
     ("FALSE", False)],
)  # fmt: skip
def test_flags(value: str, meant: bool) -> None:
    assert parse_options(Options, f"/a;direct={value}").direct is meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a;nosuch=1", "unknown option 'nosuch'; known options: cache, conf, direct, timeout, user_id"),
        ("/a;path=/b", "unknown option 'path'"),
        ("/a;=1", "unknown option ''"),
        ("/a;direct=maybe", "option direct=maybe: write direct=1 or direct=0"),
        ("/a;direct=", "option direct=: write direct=1 or direct=0"),
        ("/a;cache", "option cache needs a value: write cache=VALUE"),
        ("/a;cache=", "option cache needs a value"),
        ("/a;conf", "option conf needs a value"),
        ("/a;cache=much", "option cache: 'much' is not a size"),
        ("/a;direct;direct=0", "option 'direct' is given twice: leave one out"),
        ("/a;user_id=a;user-id=b", "option 'user-id' is given twice"),
    ],
)
def test_wrong_options_say_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(Options, text)
    assert message in str(error.value)


@dataclass(frozen=True)
class WithRequired:
    bucket: str
    key: str


def test_an_option_without_default_has_to_be_given() -> None:
    assert parse_options(WithRequired, "b;key=k", first="bucket") == WithRequired("b", "k")
    with pytest.raises(ConfigError, match="option 'key' is missing: add ;key=VALUE"):
        parse_options(WithRequired, "b", first="bucket")


@dataclass(frozen=True)
class OnlyPath:
    path: str


def test_no_options_are_known() -> None:
    with pytest.raises(ConfigError, match="unknown option 'x'; known options: none"):
        parse_options(OnlyPath, "/a;x")


@pytest.mark.parametrize(("text", "seconds"), [("", None), (";tcmur_slow=250", 0.25), (";tcmur_slow=0", 0)])
def test_what_is_slow_can_be_said(text: str, seconds: float | None) -> None:
    parts = split(f"file//srv/a{text};direct")
    assert (parts.slow, parts.rest) == (seconds, "/srv/a;direct")


def test_slow_is_a_number() -> None:
    with pytest.raises(
        ConfigError, match="tcmur_slow=1s is not a number of milliseconds: write tcmur_slow=1000"
    ):
        split("file//srv/a;tcmur_slow=1s")


@pytest.mark.parametrize(
    "text",
    [
        "nbd/tcp/[::1]:10809", "nbd/tcp/::1/10809", "nbd/tcp/[2001:db8::7]/10809;export=a",
        "nbd/tcp/fe80::1%eth0", "glfs/vol@2001:db8::7/a",
        "glfs/vol@[2001:db8::7]/a", "nbd/tcp/::ffff:192.0.2.1",
    ],
)  # fmt: skip
def test_ipv6_addresses_have_colons(text: str) -> None:
    """Which LIO's tools refuse; they take the other spelling."""
    assert split(text).rest == text.partition("/")[2]
    assert ":" not in escape_addresses(text)
    assert unescape_address(escape_addresses(text)) == text
    assert escape_addresses("file//srv/a") == "file//srv/a"


@pytest.mark.parametrize(
    "text", ["file//srv/12:30/a", "nbd/tcp/host:10809", "file//srv/:", "nbd/tcp/1::2::3/1"]
)
def test_what_is_no_address_has_none(text: str) -> None:
    with pytest.raises(ConfigError, match="LIO's tools refuse it"):
        split(text)


@dataclass
class Numbers:
    path: str
    seconds: Number = 1
    port: Number | None = None


@pytest.mark.parametrize("value", ["x", "1K", "-1", "1.5", "\u0661"])
def test_a_number_is_not_called_a_size(value: str) -> None:
    assert parse_options(Numbers, "/a;seconds=30;port=5") == Numbers("/a", 30, 5)
    for name in ("seconds", "port"):
        with pytest.raises(
            ConfigError, match=f"option {name}={value} is not a whole number: write it in digits"
        ):
            parse_options(Numbers, f"/a;{name}={value}")
