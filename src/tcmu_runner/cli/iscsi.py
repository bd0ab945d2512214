"""Who may use a LUN over iSCSI: what `create` makes of a new target, and what it refuses of one that exists.

A target's rules are those of all its LUNs. What an administrator asks for one LUN is either what the target
has already, or is refused with what the target has: nothing is opened to others by the way.
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
class Chap:
    """Without a user there is none."""

    user: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked for. portal: empty for any. initiators: their IQNs. anybody: any initiator."""

    portal: str = ""
    initiators: Sequence[str] = ()
    anybody: bool = False
    chap: Chap = field(default_factory=Chap)


@dataclass(frozen=True, slots=True)
class Rule:
    """Of one initiator. demands: whether it has to know the secret, None as the target says."""

    chap: Chap
    demands: bool | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Of a target that exists. anybody: initiators without a rule may log in. writable: they may write.
    demands: CHAP. chap: of initiators without a rule. rules: by the initiator's IQN."""

    iqn: str
    portals: Sequence[str]
    enabled: bool
    anybody: bool
    writable: bool
    demands: bool
    chap: Chap
    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Exported:
    """As it is then. initiators: those with the LUN. anybody: all others have it, too."""

    lun: int
    portals: Sequence[str]
    initiators: Sequence[str]
    anybody: bool
    chap: bool


def check(rules: Rules | None, access: Access) -> None:
    """Raises ConfigError. None: the target is new."""
    if rules is None:
        if not (access.initiators or access.anybody):
            raise ConfigError(WHO)
    elif why := next(conflicts(rules, access), ""):
        raise ConfigError(f"{rules.iqn} exists and {why}")


def conflicts(rules: Rules, access: Access) -> Iterator[str]:
    """Why the target cannot be what is asked for."""
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


def _chap_conflicts(rules: Rules, access: Access, other: str) -> Iterator[str]:
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
    """lib: rtslib_fb. Raises its errors, OSError, and ConfigError."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self._fabric = lib.FabricModule("iscsi")

    def rules(self, iqn: str) -> Rules | None:
        """Of a target; None: there is none of this name."""
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
        """Since 5.18 a rule has an attribute of its own, -1 by default."""
        try:
            own = self._number(rule, "authentication")
        except self._lib.RTSLibError:
            return None
        return None if own < 0 else bool(own)

    def export(self, undo: ExitStack, store: Any, iqn: str, access: Access) -> Exported:
        """Only the initiators that are named get the LUN, or all there are where any may log in."""
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

    def _make(self, undo: ExitStack, iqn: str, access: Access) -> Any:
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

    def _admit(self, undo: ExitStack, group: Any, initiator: str, access: Access) -> None:
        if initiator in {rule.node_wwn for rule in group.node_acls}:
            return
        rule = self._lib.NodeACL(group, initiator)
        undo.callback(rule.delete)
        if access.chap.user:
            rule.chap_userid, rule.chap_password = access.chap.user, access.chap.secret


def _group(target: Any) -> Any:
    return next(iter(sorted(target.tpgs, key=lambda group: group.tag)))


def _chap(node: Any) -> Chap:
    """Of a target's group or of an initiator's rule."""
    return Chap(node.chap_userid or "", node.chap_password or "")


def _free(taken: set[int], wanted: int) -> int:
    while wanted in taken:
        wanted += 1
    return wanted
