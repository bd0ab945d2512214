"""An administrator's settings of a unit's identity and limits, in place of its front end's values.

[devices.vol0]                 # a LUN's name, or a pattern: "vol*"; all that match apply, in order
vendor = "ACME"                # of INQUIRY: 8, 16 and 4 characters
product = "Thin disk"
revision = "1.0"
rotational = true              # VPD page B1
soft_threshold = 80            # percent used of the space below a thin unit: queues a unit attention
max_unmap = 65536              # VPD page B0, in logical blocks, by the names of scsi.profile.Limits

A LUN is meant by its name in LIO, whatever its HBA: user_0/vol0 may be user_2/vol0 after a reboot, and a
table of "user_0/vol0", as earlier versions wanted it, is one of vol0, too. A pattern with an HBA, "user_0/*",
means just that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import without_hba
from tcmu_runner.scsi.profile import Identity, Limits

_TEXTS = {"vendor": 8, "product": 16, "revision": 4}  # bytes in INQUIRY data (SPC-4 6.6.2)
# SBC-4 6.6.4: the ranges of fields of VPD page B0h; and a percentage
_NUMBERS = {
    "max_transfer": range(1, 1 << 32),
    "optimal_transfer": range(1 << 32),
    "granularity": range(1, 1 << 16),
    "max_unmap": range(1, 1 << 32),
    "max_unmap_descriptors": range(1, 1 << 32),
    "unmap_granularity": range(1, 1 << 32),
    "unmap_alignment": range(1 << 31),
    "max_write_same": range(1, 1 << 32),
    "max_compare_and_write": range(1, 256),
    "max_atomic": range(1, 1 << 32),
    "physical_exponent": range(16),
    "soft_threshold": range(101),
}
_FLAGS = {"rotational", "write_same_to_end"}
_OF_IDENTITY = {*_TEXTS, "rotational"}

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Overrides:
    """identity, limits: values for fields of Identity and Limits."""

    identity: Mapping[str, Value] = field(default_factory=dict)
    limits: Mapping[str, Value] = field(default_factory=dict)

    def identify(self, identity: Identity) -> Identity:
        return replace(identity, **self.identity)  # type: ignore[arg-type]  # checked by `parse`

    def limit(self, limits: Limits) -> Limits:
        """Applies the overrides; max_transfer stays within the transport's."""
        found = replace(limits, **self.limits)  # type: ignore[arg-type]  # checked by `parse`
        return replace(found, max_transfer=min(found.max_transfer, limits.max_transfer or found.max_transfer))


@dataclass(frozen=True, slots=True)
class OverrideTable:
    """Overrides by pattern of a device's name."""

    tables: tuple[tuple[str, Overrides], ...] = ()

    def of(self, name: str) -> Overrides:
        """name: as in configfs, user_0/vol0. Later tables win. A table for another HBA's LUN of this name
        applies as well, unless one has the exact name: LIO's tools renumber HBAs at each boot."""
        named = any(pattern == name for pattern, _ in self.tables)
        identity: dict[str, Value] = {}
        limits: dict[str, Value] = {}
        for pattern, overrides in self.tables:
            if _matches(pattern, name) or (not named and _names(pattern, without_hba(name))):
                identity.update(overrides.identity)
                limits.update(overrides.limits)
        return Overrides(identity, limits)


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(without_hba(name), pattern)


def _names(pattern: str, name: str) -> bool:
    """Whether the pattern is another HBA's LUN of this name."""
    return without_hba(pattern) == name != pattern


def parse(pattern: str, table: Mapping[str, object]) -> Overrides:
    """Parses one table of the settings. Raises ConfigError with the key and what would be right."""
    identity: dict[str, Value] = {}
    limits: dict[str, Value] = {}
    for key, value in table.items():
        checked = _check(f"devices.{pattern}.{key}", key, value)
        (identity if key in _OF_IDENTITY else limits)[key] = checked
    return Overrides(identity, limits)


def _check(where: str, key: str, value: object) -> Value:
    if key in _TEXTS:
        return _text(where, value, _TEXTS[key])
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"{where} = {value!r}: write true or false")
        return value
    if key not in _NUMBERS:
        known = ", ".join(sorted({*_TEXTS, *_FLAGS, *_NUMBERS}))
        raise ConfigError(f"unknown setting {where}; there are: {known}")
    allowed = _NUMBERS[key]
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise ConfigError(f"{where} = {value!r}: write a number from {allowed[0]} to {allowed[-1]}")
    return value


def _text(where: str, value: object, longest: int) -> str:
    """SPC-5 4.3.1: ASCII data fields hold the characters 20h to 7Eh."""
    if isinstance(value, str) and len(value) <= longest and value.isascii() and value.isprintable():
        return value
    raise ConfigError(f"{where} = {value!r}: write at most {longest} printable ASCII characters")
