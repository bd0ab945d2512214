"""Access to a LUN over iSCSI: what `create` sets up for a new target, and refuses for an existing one.

A target's rules hold for all its LUNs. If the target's rules are not those that the administrator asks for,
the LUN is refused: `create` never opens other LUNs as a side effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tcmu_runner.errors import ConfigError

PORTAL = "0.0.0.0:3260"
WHO = "who may log in? Say --initiator IQN, or --any-initiator"


@dataclass(frozen=True, slots=True)
class ChapCredentials:
    """Credentials; without a user there is no CHAP."""

    user: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """The access asked for. portal: empty for any. initiators: their IQNs. anybody: any initiator."""

    portal: str = ""
    initiators: Sequence[str] = ()
    anybody: bool = False
    chap: ChapCredentials = field(default_factory=ChapCredentials)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule (ACL) of one initiator. demands: whether it has to use CHAP; None: as the target says."""

    chap: ChapCredentials
    demands: bool | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of an existing target. anybody: initiators without a rule may log in. writable: they may
    write. demands: whether they have to use CHAP. chap: their credentials. rules: by the initiator's IQN."""

    iqn: str
    portals: Sequence[str]
    enabled: bool
    anybody: bool
    writable: bool
    demands: bool
    chap: ChapCredentials
    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Exported:
    """The result. initiators: those that have the LUN. anybody: whether all others have it, too."""

    lun: int
    portals: Sequence[str]
    initiators: Sequence[str]
    anybody: bool
    chap: bool


def check(rules: Rules | None, access: Grant) -> None:
    """Raises ConfigError for a conflict. rules None: the target is new."""
    if rules is None:
        if not (access.initiators or access.anybody):
            raise ConfigError(WHO)
    elif why := next(conflicts(rules, access), ""):
        raise ConfigError(f"{rules.iqn} exists and {why}")


def conflicts(rules: Rules, access: Grant) -> Iterator[str]:
    """Differences between the target's rules and the access asked for, as sentences."""
    other, group = "or take another --iscsi IQN", f"targetcli /iscsi/{rules.iqn}/tpg1"
    if not rules.enabled:
        yield f"is disabled: {group} enable"
    if access.portal and access.portal not in rules.portals:
        there = " and ".join(rules.portals) or "no portal"
        yield f"listens on {there}, not on {access.portal}: leave --portal out, {other}"
    if rules.anybody and not access.anybody:
        yield f"admits any initiator, the LUN cannot be kept from them: say --any-initiator, {other}"
    if access.anybody and not rules.anybody:
        known = ", ".join(rules.rules) or "none"
        yield f"admits initiators by name only, {known}: say --initiator IQN, {other}"
    if not (access.initiators or access.anybody):
        yield f"has these initiators: {', '.join(rules.rules) or 'none'}. {WHO}"
    if access.anybody and not rules.writable:
        yield f"lets any initiator only read: {group} set attribute demo_mode_write_protect=0"
    yield from _chap_conflicts(rules, access, other)


def _chap_conflicts(rules: Rules, access: Grant, other: str) -> Iterator[str]:
    known = {name: rules.rules[name] for name in access.initiators if name in rules.rules}
    if access.anybody:
        known["any initiator"] = Rule(rules.chap)
    for name in access.initiators:
        known.setdefault(name, Rule(access.chap))
    for name, rule in known.items():
        demands = rules.demands if rule.demands is None else rule.demands
        if access.chap.user and not demands:
            yield f"does not demand CHAP of {name}: leave --user out, {other}"
        if demands and not rule.chap.user:
            yield f"demands CHAP, and {name} has no secret: say --user NAME, {other}"
        if access.chap.user and rule.chap != access.chap:
            yield f"has another CHAP user or secret for {name}: leave --user out, {other}"


class Exporter:
    """lib: the module rtslib_fb. Raises its errors, OSError and ConfigError."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self._fabric = lib.FabricModule("iscsi")

    def rules(self, iqn: str) -> Rules | None:
        """The rules of a target; None: there is no target of this name."""
        target = next((each for each in self._fabric.targets if each.wwn == iqn), None)
        return None if target is None else self._read(iqn, _group(target))

    def _read(self, iqn: str, group: Any) -> Rules:
        return Rules(
            iqn,
            [f"{portal.ip_address}:{portal.port}" for portal in group.network_portals],
            bool(group.enable),
            bool(self._number(group, "generate_node_acls")),
            not self._number(group, "demo_mode_write_protect"),
            bool(self._number(group, "authentication")),
            _chap(group),
            {rule.node_wwn: Rule(_chap(rule), self._demands(rule)) for rule in group.node_acls},
        )

    def _number(self, node: Any, attribute: str) -> int:
        return int(node.get_attribute(attribute))

    def _demands(self, rule: Any) -> bool | None:
        """Whether a rule requires CHAP. Kernels since 5.18 have an attribute for it, -1 by default."""
        try:
            own = self._number(rule, "authentication")
        except self._lib.RTSLibError:
            return None
        return None if own < 0 else bool(own)

    def export(self, undo: ExitStack, store: Any, iqn: str, access: Grant) -> Exported:
        """Maps the LUN to the named initiators; if any may log in, to all rules that there are."""
        check(self.rules(iqn), access)
        target = next((each for each in self._fabric.targets if each.wwn == iqn), None)
        group = self._make(undo, iqn, access) if target is None else _group(target)
        lun = self._lib.LUN(group, storage_object=store)
        undo.callback(lun.delete)
        for initiator in access.initiators:
            self._admit(undo, group, initiator, access)
        for rule in group.node_acls:
            if access.anybody or rule.node_wwn in access.initiators:
                number = _free({mapped.mapped_lun for mapped in rule.mapped_luns}, lun.lun)
                undo.callback(self._lib.MappedLUN(rule, number, lun.lun).delete)
        return self._exported(iqn, group, int(lun.lun))

    def _exported(self, iqn: str, group: Any, lun: int) -> Exported:
        now = self._read(iqn, group)
        having = [
            rule.node_wwn
            for rule in group.node_acls
            if any(int(mapped.tpg_lun.lun) == lun for mapped in rule.mapped_luns)
        ]
        demands = [rule.demands for name, rule in now.rules.items() if name in having]
        chap = any(now.demands if each is None else each for each in [*demands, *([None] * now.anybody)])
        return Exported(lun, now.portals, sorted(having), now.anybody, chap)

    def _make(self, undo: ExitStack, iqn: str, access: Grant) -> Any:
        address, _, port = (access.portal or PORTAL).rpartition(":")
        target = self._lib.Target(self._fabric, iqn)
        undo.callback(target.delete)
        group = self._lib.TPG(target, 1)
        group.set_attribute("authentication", int(bool(access.chap.user)))
        if access.anybody:
            for name, value in (
                ("generate_node_acls", 1), ("cache_dynamic_acls", 1), ("demo_mode_write_protect", 0),
            ):  # fmt: skip
                group.set_attribute(name, value)
            if access.chap.user:
                group.chap_userid, group.chap_password = access.chap.user, access.chap.secret
        self._lib.NetworkPortal(group, address, int(port))
        group.enable = True
        return group

    def _admit(self, undo: ExitStack, group: Any, initiator: str, access: Grant) -> None:
        if initiator in {rule.node_wwn for rule in group.node_acls}:
            return
        rule = self._lib.NodeACL(group, initiator)
        undo.callback(rule.delete)
        if access.chap.user:
            rule.chap_userid, rule.chap_password = access.chap.user, access.chap.secret


def _group(target: Any) -> Any:
    return next(iter(sorted(target.tpgs, key=lambda group: group.tag)))


def _chap(node: Any) -> ChapCredentials:
    """The credentials of a target's portal group or of an initiator's rule."""
    return ChapCredentials(node.chap_userid or "", node.chap_password or "")


def _free(taken: set[int], wanted: int) -> int:
    while wanted in taken:
        wanted += 1
    return wanted
