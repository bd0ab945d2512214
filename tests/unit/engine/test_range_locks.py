"""Commands that need their blocks to themselves."""

from tcmu_runner.engine.serve.range_locks import RangeLocks
from tcmu_runner.scsi.command import Command, Nexus

NEXUS = Nexus()


def command(offset: int, length: int) -> Command:
    """A command whose 'CDB' is its range."""
    return Command(offset.to_bytes(4, "big") + length.to_bytes(4, "big"), [], NEXUS)


def range_of(one: Command) -> tuple[int, int]:
    return int.from_bytes(one.cdb[:4], "big"), int.from_bytes(one.cdb[4:], "big")


def test_it_waits_for_all_that_is_under_way_on_its_blocks() -> None:
    gate = RangeLocks(range_of)
    beside, on_it = command(0, 512), command(512, 512)
    wanted = command(512, 1024)
    assert not gate.admit(wanted, None, {beside, on_it}, exclusive=True)
    assert not gate.ended(beside)
    assert gate.released(set()) == []
    assert gate.ended(on_it)
    assert [parked.command for parked in gate.released(set())] == [wanted]
    assert gate.active


def test_later_commands_on_its_blocks_wait_for_it_and_others_do_not() -> None:
    gate = RangeLocks(range_of)
    holder = command(0, 1024)
    assert gate.admit(holder, None, set(), exclusive=True)
    behind, elsewhere = command(512, 512), command(1024, 512)
    assert not gate.admit(behind, None, {holder}, exclusive=False)
    assert gate.admit(elsewhere, None, {holder}, exclusive=False)
    assert gate.ended(holder)
    under_way: set[Command] = set()
    assert [parked.command for parked in gate.released(under_way)] == [behind]
    assert under_way == {behind}  # at once: who looks for it meanwhile finds it
    assert not gate.active


def test_nobody_overtakes_one_that_waits() -> None:
    gate = RangeLocks(range_of)
    running = command(0, 512)
    first = command(0, 512)
    assert not gate.admit(first, None, {running}, exclusive=True)
    assert not gate.admit(command(0, 512), None, {running}, exclusive=False)
    assert not gate.admit(command(0, 512), None, {running}, exclusive=True)
    gate.ended(running)
    assert [parked.command for parked in gate.released(set())] == [first]


def test_those_that_waited_go_one_after_the_other() -> None:
    """The first may be a write that its initiator has given up meanwhile, the second what it wrote then."""
    gate = RangeLocks(range_of)
    holder, first, second = command(0, 512), command(0, 512), command(0, 512)
    assert gate.admit(holder, None, set(), exclusive=True)
    assert not gate.admit(first, None, {holder}, exclusive=False)
    assert not gate.admit(second, None, {holder}, exclusive=False)
    assert gate.ended(holder)
    assert [parked.command for parked in gate.released(set())] == [first]
    assert gate.active
    assert gate.ended(first)
    assert [parked.command for parked in gate.released(set())] == [second]


def test_two_on_different_blocks_run_side_by_side() -> None:
    gate = RangeLocks(range_of)
    one, other = command(0, 512), command(512, 512)
    assert gate.admit(one, None, set(), exclusive=True)
    assert gate.admit(other, None, {one}, exclusive=True)


def test_later_commands_wait_for_one_that_holds_its_blocks() -> None:
    gate = RangeLocks(range_of)
    running, gone = command(0, 512), command(512, 512)
    gate.hold(running, {running})
    gate.hold(gone, {running})  # it has ended meanwhile
    assert gate.admit(command(512, 512), None, {running}, exclusive=False)
    behind = command(0, 1024)
    assert not gate.admit(behind, None, {running}, exclusive=False)
    assert gate.ended(running)
    assert [parked.command for parked in gate.released(set())] == [behind]
    assert not gate.active


def test_a_reset_forgets_all() -> None:
    gate = RangeLocks(range_of)
    gate.admit(command(0, 512), None, set(), exclusive=True)
    gate.forget()
    assert not gate.active
    assert gate.admit(command(0, 512), None, set(), exclusive=False)
