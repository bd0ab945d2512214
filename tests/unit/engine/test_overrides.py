"""What an administrator sets of a unit."""

from dataclasses import fields

import pytest

from tcmu_runner.engine.overrides import Overrides, OverrideTable, parse
from tcmu_runner.errors import ConfigError
from tcmu_runner.scsi.profile import Identity, Limits


def test_identity_and_limits() -> None:
    overrides = parse("*", {"vendor": "ACME", "rotational": True, "max_unmap": 64, "write_same_to_end": True})
    assert overrides.identify(Identity(serial="s")) == Identity(vendor="ACME", serial="s", rotational=True)
    assert overrides.limit(Limits()) == Limits(max_unmap=64, write_same_to_end=True)


def test_nobody_can_allow_more_than_the_transport_carries() -> None:
    assert parse("*", {"max_transfer": 1024}).limit(Limits(max_transfer=128)).max_transfer == 128
    assert parse("*", {"max_transfer": 64}).limit(Limits(max_transfer=128)).max_transfer == 64
    assert parse("*", {"max_transfer": 64}).limit(Limits()).max_transfer == 64
    assert Overrides().limit(Limits(max_transfer=128)).max_transfer == 128


def test_what_stands_further_down_wins() -> None:
    everywhere = parse("*", {"vendor": "A", "product": "P"})
    table = OverrideTable((("*", everywhere), ("user_0/*", parse("user_0/*", {"vendor": "B"}))))
    assert table.of("user_0/vol0").identity == {"vendor": "B", "product": "P"}
    assert table.of("user_1/vol0").identity == {"vendor": "A", "product": "P"}
    assert OverrideTable().of("user_0/vol0") == Overrides()


def vendor(device: str, *patterns: str) -> object:
    """Each pattern's table says its own number."""
    tables = ((pattern, parse(pattern, {"vendor": str(at)})) for at, pattern in enumerate(patterns))
    return OverrideTable(tuple(tables)).of(device).identity.get("vendor")


@pytest.mark.parametrize("pattern", ["vol0", "vol*", "*", "user_2/vol0", "user_0/vol0", "user_?/vol0"])
def test_a_lun_is_meant_by_its_name_whatever_the_hba(pattern: str) -> None:
    """rtslib numbers HBAs anew at each boot: user_0/vol0 may be user_2/vol0 then."""
    assert vendor("user_2/vol0", pattern) == "0"


@pytest.mark.parametrize("pattern", ["vol", "vol01", "user_0/vol", "user_0/*", "user_0/vol*", "user_2"])
def test_another_lun_is_not(pattern: str) -> None:
    assert vendor("user_2/vol0", pattern) is None


def test_a_table_of_the_very_hba_counts_where_there_is_one() -> None:
    assert vendor("user_2/vol0", "user_2/vol0", "user_0/vol0") == "0"
    assert vendor("user_1/vol0", "user_2/vol0", "user_0/vol0") == "1"


def test_every_limit_can_be_set() -> None:
    """Whatever a unit announces in VPD page B0."""
    for each in fields(Limits):
        value: object = True if each.type == "bool" else 1
        assert parse("*", {each.name: value}).limits == {each.name: value}


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("vendor", "much too long", "at most 8 printable ASCII"),
        ("product", "\u00e4", "at most 16 printable ASCII"),
        ("revision", 1, "at most 4 printable ASCII"),
        ("rotational", "yes", "true or false"),
        ("soft_threshold", 101, "from 0 to 100"),
        ("max_compare_and_write", 256, "from 1 to 255"),
        ("max_unmap", True, "from 1 to 4294967295"),
        ("colour", "red", "there are: .*vendor"),
    ],
)
def test_what_is_wrong_is_named(key: str, value: object, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"devices.user_0/a.{key}.*{remedy}"):
        parse("user_0/a", {key: value})
