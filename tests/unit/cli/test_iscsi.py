"""Who gets a LUN over iSCSI: conflicts with a target that exists, and what is made, on a stand-in for rtslib.
That the real LIO does so: tests/vm/test_commands.py."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from tcmu_runner.cli import iscsi
from tcmu_runner.cli.iscsi import ChapCredentials, Exporter, Grant, Rule, Rules
from tcmu_runner.errors import ConfigError

IQN = "iqn.2026-11.com.example:vol0"
ALICE, BOB = "iqn.1993-08.org.debian:01:alice", "iqn.1993-08.org.debian:01:bob"
SECRET, OTHER = ChapCredentials("user", "a secret of length"), ChapCredentials("user", "another of length")
CLOSED = Rules(
    IQN, ["127.0.0.1:3260"], True, False, False, False, ChapCredentials(), {ALICE: Rule(ChapCredentials())}
)
OPEN = replace(CLOSED, anybody=True, writable=True, rules={})
WITH_CHAP = replace(CLOSED, demands=True, rules={ALICE: Rule(SECRET)})


@pytest.mark.parametrize(
    ("rules", "access"),
    [
        (CLOSED, Grant(initiators=[ALICE])),
        (CLOSED, Grant("127.0.0.1:3260", [ALICE, BOB])),
        (OPEN, Grant(anybody=True)),
        (OPEN, Grant(anybody=True, initiators=[BOB])),
        (WITH_CHAP, Grant(initiators=[ALICE])),
        (WITH_CHAP, Grant(initiators=[ALICE, BOB], chap=SECRET)),
        (replace(OPEN, demands=True, chap=SECRET), Grant(anybody=True)),
        (
            replace(CLOSED, demands=True, rules={ALICE: Rule(ChapCredentials(), False)}),
            Grant(initiators=[ALICE]),
        ),
        (None, Grant(anybody=True)),
        (None, Grant("[::1]:3260", [BOB], chap=SECRET)),
    ],
)
def test_what_the_target_is_already(rules: Rules | None, access: Grant) -> None:
    iscsi.check(rules, access)


@pytest.mark.parametrize(
    ("rules", "access", "why"),
    [
        (CLOSED, Grant("0.0.0.0:3260", [ALICE]), r"listens on 127.0.0.1:3260, not on 0.0.0.0:3260"),
        (replace(CLOSED, portals=[]), Grant("0.0.0.0:3260", [ALICE]), "listens on no portal"),
        (CLOSED, Grant(anybody=True), rf"admits initiators by name only, {ALICE}: say --initiator IQN"),
        (CLOSED, Grant(), rf"has these initiators: {ALICE}. who may log in\?"),
        (CLOSED, Grant(initiators=[ALICE], chap=SECRET), "does not demand CHAP of .*alice: leave"),
        (CLOSED, Grant(initiators=[BOB], chap=SECRET), "does not demand CHAP of .*bob: leave --user out"),
        (replace(CLOSED, enabled=False), Grant(initiators=[ALICE]), "is disabled: targetcli /iscsi/iqn"),
        (OPEN, Grant(initiators=[BOB]), "admits any initiator, the LUN cannot be kept from them"),
        (OPEN, Grant(), "admits any initiator"),
        (OPEN, Grant(anybody=True, chap=SECRET), "does not demand CHAP of any initiator"),
        (replace(OPEN, writable=False), Grant(anybody=True), "only read: .* demo_mode_write_protect=0"),
        (replace(OPEN, demands=True), Grant(anybody=True), "any initiator has no secret"),
        (WITH_CHAP, Grant(initiators=[BOB]), "demands CHAP, and .*bob has no secret: say --user NAME"),
        (WITH_CHAP, Grant(initiators=[ALICE], chap=OTHER), "has another CHAP user or secret for .*alice"),
        (replace(WITH_CHAP, rules={ALICE: Rule(SECRET, False)}), Grant(initiators=[ALICE], chap=SECRET),
         "does not demand CHAP of .*alice"),
        (None, Grant(), "^who may log in"),
    ],
)  # fmt: skip
def test_what_it_is_not_is_refused(rules: Rules | None, access: Grant, why: str) -> None:
    """It used to be ignored, and the LUN was open to others than asked for."""
    with pytest.raises(ConfigError, match=why):
        iscsi.check(rules, access)


class RTSLibError(Exception):
    pass


@dataclass
class Node:
    """A target, group, rule, ... of rtslib's."""

    attributes: dict[str, int] = field(default_factory=dict)
    chap_userid: str = ""
    chap_password: str = ""
    deleted: bool = False

    def get_attribute(self, name: str) -> str:
        if name not in self.attributes:
            raise RTSLibError(f"Cannot find attribute: {name}")
        return str(self.attributes[name])

    def set_attribute(self, name: str, value: int) -> None:
        self.attributes[name] = value

    def delete(self) -> None:
        self.deleted = True


class Target(Node):
    def __init__(self, fabric: Fabric, wwn: str) -> None:
        super().__init__()
        self.wwn, self.tpgs = wwn, list[Group]()
        fabric.targets.append(self)


class Group(Node):
    def __init__(self, target: Target, tag: int) -> None:
        super().__init__({"generate_node_acls": 0, "demo_mode_write_protect": 1, "authentication": 0})
        self.tag, self.enable = tag, False
        self.luns, self.node_acls, self.network_portals = list[Lun](), list[Acl](), list[Portal]()
        target.tpgs.append(self)


class Lun(Node):
    def __init__(self, group: Group, storage_object: object) -> None:
        super().__init__()
        self.lun = len(group.luns)
        group.luns.append(self)


class Portal(Node):
    def __init__(self, group: Group, address: str, port: int) -> None:
        super().__init__()
        self.ip_address, self.port = address, port
        group.network_portals.append(self)


class Acl(Node):
    def __init__(self, group: Group, wwn: str) -> None:
        super().__init__({"authentication": -1})
        self.group, self.node_wwn, self.mapped_luns = group, wwn, list[Mapped]()
        group.node_acls.append(self)


class Mapped(Node):
    def __init__(self, rule: Acl, number: int, lun: int) -> None:
        super().__init__()
        self.mapped_lun, self.tpg_lun = number, rule.group.luns[lun]
        rule.mapped_luns.append(self)


class Fabric:
    def __init__(self) -> None:
        self.targets = list[Target]()


@pytest.fixture
def exporter() -> Exporter:
    fabric = Fabric()
    lib: Any = SimpleNamespace(
        FabricModule=lambda _name: fabric, Target=Target, TPG=Group, LUN=Lun, NetworkPortal=Portal,
        NodeACL=Acl, MappedLUN=Mapped, RTSLibError=RTSLibError,
    )  # fmt: skip
    return Exporter(lib)


def export(exporter: Exporter, access: Grant) -> iscsi.Exported:
    with ExitStack() as undo:
        made = exporter.export(undo, object(), IQN, access)
        undo.pop_all()
    return made


def test_a_new_target(exporter: Exporter) -> None:
    made = export(exporter, Grant("[::1]:3261", [ALICE], chap=SECRET))
    assert made == iscsi.Exported(0, ["[::1]:3261"], [ALICE], anybody=False, chap=True)
    rules = exporter.rules(IQN)
    assert rules is not None
    assert (rules.enabled, rules.demands, rules.rules) == (True, True, {ALICE: Rule(SECRET)})


def test_an_open_one(exporter: Exporter) -> None:
    made = export(exporter, Grant(anybody=True))
    assert made == iscsi.Exported(0, ["0.0.0.0:3260"], [], anybody=True, chap=False)
    rules = exporter.rules(IQN)
    assert rules is not None
    assert (rules.anybody, rules.writable) == (True, True)
    again = export(exporter, Grant(anybody=True, initiators=[ALICE]))
    assert (again.lun, again.initiators, again.anybody) == (1, [ALICE], True)


def test_only_the_initiators_that_are_named_get_the_lun(exporter: Exporter) -> None:
    """And it is told which they are, and where the target really listens."""
    export(exporter, Grant("127.0.0.1:3260", [ALICE]))
    made = export(exporter, Grant(initiators=[BOB]))
    assert made == iscsi.Exported(1, ["127.0.0.1:3260"], [BOB], anybody=False, chap=False)
    both = export(exporter, Grant(initiators=[ALICE, BOB]))
    assert (both.lun, both.initiators) == (2, sorted([ALICE, BOB]))


def test_what_is_refused_leaves_all_as_it_was(exporter: Exporter) -> None:
    export(exporter, Grant(initiators=[ALICE]))
    before = exporter.rules(IQN)
    with pytest.raises(ConfigError, match="does not demand CHAP"):
        export(exporter, Grant(initiators=[BOB], chap=SECRET))
    assert exporter.rules(IQN) == before


def test_a_kernel_without_chap_of_each_initiators_own(exporter: Exporter) -> None:
    """Before 5.18 the target alone says it."""
    made = export(exporter, Grant(initiators=[ALICE]))
    (target,) = exporter._fabric.targets
    del target.tpgs[0].node_acls[0].attributes["authentication"]
    assert export(exporter, Grant(initiators=[ALICE])) == replace(made, lun=1)


def test_a_number_that_an_initiator_has_already_is_another_one(exporter: Exporter) -> None:
    export(exporter, Grant(initiators=[ALICE]))
    (target,) = exporter._fabric.targets
    (rule,) = target.tpgs[0].node_acls
    Mapped(rule, 1, 0)
    export(exporter, Grant(initiators=[ALICE]))
    assert [each.mapped_lun for each in rule.mapped_luns] == [0, 1, 2]
