"""Each of sg3-utils' tools does to a disk of ours what it is for: by their words, and by the bytes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import disk as bytes_of
from support import sg
from support.configfs import Backstore
from support.deadline import CommandError, Ended, attempt, command, eventually
from support.fixtures import MIB, MakeBackstore
from support.handlers import handler_path
from support.iscsi import Initiator, IscsiTarget
from support.loopback import Loopback
from support.reservations import registrations

SERIAL = "5e7a1000-0000-4000-8000-00000000c0de"
SIZE = 64 * MIB
PAGE = bytes(range(256)) * 16  # 4096 bytes, eight blocks
NOT_READY, ILLEGAL_REQUEST, UNIT_ATTENTION, MISCOMPARE = 2, 5, 6, 14  # sg3_utils(8)
DATA_PROTECT, INVALID_OPCODE, OUT_OF_RANGE, CONFLICT = 7, 9, 22, 24
CDB_LENGTHS = (6, 10, 10, 12, 16, 12, 10, 10)  # by the upper three bits of the opcode (SPC-5 4.2.5.1)


def sg3(*argv: str | Path, expect: int = 0) -> str:
    """What a tool says. A unit attention, which every initiator meets now and then, is met once more."""
    ended = attempt(*argv)
    if ended.status == UNIT_ATTENTION:
        ended = attempt(*argv)
    if ended.status != expect:
        raise CommandError(f"{ended.line}: exit status {ended.status}\n{ended.output}{ended.errors}")
    return ended.output + ended.errors


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    return handler_path()


@pytest.fixture
def backstore(make_backstore: MakeBackstore, tmp_path: Path) -> Backstore:
    """Sparse, so that it can tell what is mapped."""
    made = make_backstore(f"file/{tmp_path}/disk.img", SIZE)
    made.store("wwn/vpd_unit_serial", SERIAL)
    return made


@pytest.fixture
def disk(backstore: Backstore, loopback: Loopback) -> Path:
    return loopback.add(backstore)


@pytest.fixture
def remote_disk(backstore: Backstore) -> Path:
    """Over iSCSI: a loopback port has a relative port id up to Linux 6.4 only."""
    return Initiator().login(IscsiTarget().create(backstore))


@pytest.fixture
def second_port(remote_disk: Path, backstore: Backstore) -> IscsiTarget:
    return IscsiTarget(1, "127.0.0.1:3261").create(backstore)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def slow_disk(make_backstore: MakeBackstore, loopback: Loopback, gate: Path) -> Iterator[Path]:
    """Long work on it waits for the gate."""
    yield loopback.add(make_backstore(f"gated/{gate}", SIZE))
    gate.touch()


@pytest.fixture
def place_for_reservations() -> Iterator[None]:
    with registrations():
        yield


def write(disk: Path, page: int, data: bytes = PAGE) -> None:
    bytes_of.write(disk, page * len(PAGE), data)


def read(disk: Path, page: int, pages: int = 1) -> bytes:
    return bytes_of.read(disk, page * len(PAGE), pages * len(PAGE))


def zeroes(pages: int = 1) -> bytes:
    return bytes(pages * len(PAGE))


# -- what it is -----------------------------------------------------------------------------------------


def test_sg_inq(disk: Path) -> None:
    text = sg3("sg_inq", disk)
    assert "LIO-ORG" in text
    assert "TCMU device" in text
    assert f"Unit serial number: {SERIAL}" in text
    assert "[SPC-4]" in text
    assert "TPGS=3" in text
    assert "CmdQue=1" in text


def test_sg_vpd(remote_disk: Path) -> None:
    ended = attempt("sg_vpd", "-a", remote_disk)
    assert (ended.status, ended.errors) == (0, "")
    names = re.findall(r"\[(\w+)\]\n", ended.output.split("\n\n")[0] + "\n")
    assert names == ["sv", "sn", "di", "ei", "tpc", "bl", "bdc", "lbpv"]
    for name in names:
        assert attempt("sg_vpd", "-p", name, remote_disk).status == 0
    assert f"vendor specific: TCMU device:{SERIAL}" in ended.output
    assert (
        "0x60014055e7a100000004000800000000" in ended.output
    )  # NAA 6, LIO's company id, digits of the serial
    assert "Relative target port: 0x1" in ended.output
    assert "Target port group: 0x0" in ended.output
    assert "Optimal transfer length: 0 blocks" in ended.output  # hw_max_sectors has its default
    assert "Provisioning type: 2 (thin provisioned)" in ended.output
    assert "Unmap command supported (LBPU): 1" in ended.output


def test_sg_modes(disk: Path) -> None:
    text = sg3("sg_modes", "-a", disk)
    assert re.findall(r"^>> (.*?), page_control: current", text, re.MULTILINE) == [
        "Read-Write error recovery",
        "Caching",
        "Control",
        "Informational exceptions control",
    ]
    assert "WP=0, DpoFua=1" in text
    for control in range(3):  # current, changeable, default
        assert ">> Control" in sg3("sg_modes", f"--control={control}", "--page=0xa", disk)
    assert "Control extension" in sg3("sg_modes", "--page=0xa,1", disk)


def set_write_protect(disk: Path, *, on: bool) -> None:
    contents = f"a,a,0,10,{8 if on else 0},40,0,0,ff,ff,0,0"  # Control mode page; SWP is bit 3 of byte 4
    sg3("sg_wr_mode", "--page=a", f"--contents={contents}", "--mask=0,0,0,0,8,0,0,0,0,0,0,0", generic(disk))


def generic(disk: Path) -> Path:
    """Its /dev/sgN: the block device itself cannot be opened for writing once Linux knows it is protected."""
    return Path("/dev") / next(Path(f"/sys/block/{disk.name}/device/scsi_generic").iterdir()).name


def test_a_mode_page_is_changed(disk: Path) -> None:
    write(disk, 0)
    set_write_protect(disk, on=True)
    assert "WP=1" in sg3("sg_modes", "-a", disk)
    sg3("sg_write_same", "--lba=0", "--num=8", generic(disk), expect=DATA_PROTECT)
    assert read(disk, 0) == PAGE
    set_write_protect(disk, on=False)
    sg3("sg_write_same", "--lba=0", "--num=8", generic(disk))
    assert read(disk, 0) == zeroes()


def listed(disk: Path) -> set[tuple[int, int | None]]:
    lines = re.findall(r"^ ([0-9a-f]{2})  ( *[0-9a-f]*) +\d+ +0,0 ", sg3("sg_opcodes", disk), re.MULTILINE)
    return {(int(opcode, 16), int(action, 16) if action.strip() else None) for opcode, action in lines}


def test_sg_opcodes(disk: Path) -> None:
    found = listed(disk)
    assert {(0x28, None), (0x89, None), (0x9E, 0x12), (0xA4, 0x0A), (0x48, 0x01)} <= found
    # LIO answers these itself
    assert {(0xA0, None), (0x5E, 0x00), (0x5F, 0x05), (0x16, None), (0x57, None)} <= found
    # CDB usage data: what of READ(10) is looked at (SBC-4 5.15)
    assert "28 18 ff ff ff ff 00 ff ff 00" in sg3("sg_opcodes", "--opcode=0x28", disk)
    assert "Command is NOT supported" in sg3("sg_opcodes", "--opcode=0xd0", disk)
    tmf = sg3("sg_opcodes", "--tmf", disk)
    assert re.findall(r"^ +(.*)$", tmf, re.MULTILINE)[-2:] == ["Abort task", "Logical unit reset"]


def test_what_is_not_listed_is_refused(disk: Path) -> None:
    opcodes = set(range(0x100)) - {opcode for opcode, _ in listed(disk)} - {0x7E, 0x7F}  # of variable length
    for opcode in sorted(opcodes):
        reply = sg.raw(disk, f"{opcode:02x}" + "00" * (CDB_LENGTHS[opcode >> 5] - 1))
        assert reply.status == INVALID_OPCODE, f"{opcode:02x}: {reply.text}"


def test_reservations_that_lio_refuses_are_not_listed(backstore: Backstore, loopback: Loopback) -> None:
    backstore.store("attrib/emulate_pr", 0)
    disk = loopback.add(backstore)
    assert not {opcode for opcode, _ in listed(disk)} & {0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F}
    sg3("sg_persist", "--read-keys", disk, expect=INVALID_OPCODE)


def test_sg_luns(disk: Path) -> None:
    assert "0000000000000000" in sg3("sg_luns", disk)  # by LIO, as sg_opcodes says


def test_sg_logs(disk: Path) -> None:
    text = sg3("sg_logs", "-a", disk)
    for page in ("Temperature page", "Self-test results page", "Informational Exceptions page"):
        assert page in text
    assert "IE asc = 0x0, ascq = 0x0" in text
    sg3("sg_senddiag", "--selftest=5", disk)  # foreground, short
    assert "foreground short" in sg3("sg_logs", "--page=0x10", disk)
    assert "completed without error" in sg3("sg_logs", "--page=0x10", disk)


# -- target port groups ---------------------------------------------------------------------------------


def group_file(backstore: Backstore, name: str) -> str:
    return backstore.show(f"alua/default_tg_pt_gp/{name}")


@pytest.mark.usefixtures("second_port")
def test_sg_rtpg(remote_disk: Path, backstore: Backstore) -> None:
    backstore.store("alua/default_tg_pt_gp/preferred", 1)
    text = sg3("sg_rtpg", "--decode", remote_disk)
    assert "target port group id : 0x0 , Pref=1" in text
    assert "state : 0x00 (active/optimized)" in text
    assert "T_SUP : 1, O_SUP : 1, LBD_SUP : 0, U_SUP : 1, S_SUP : 1, AN_SUP : 1, AO_SUP : 1" in text
    assert text.split("Relative target port ids:")[1].split() == ["0x01", "0x02"]
    backstore.store("alua/default_tg_pt_gp/implicit_trans_secs", 7)
    assert "implicit transition time: 7" in sg3("sg_rtpg", "--decode", "--extended", remote_disk).lower()


def test_sg_stpg(disk: Path, backstore: Backstore) -> None:
    sg3("sg_stpg", "--active", disk)
    assert group_file(backstore, "alua_access_state") == "1"
    assert group_file(backstore, "alua_access_status") == "Altered by Explicit STPG"
    text = sg3("sg_rtpg", "--decode", disk)
    assert "state : 0x01 (active/non optimized)" in text
    assert "status code : 0x01" in text
    sg3("sg_stpg", "--tp=0", "--state=2", disk)
    assert group_file(backstore, "alua_access_state") == "2"
    cdb = "28 00 00000000 00 0008 00"  # LIO refuses by the state; later kernels first tell of its change
    while (refused := sg.raw(disk, cdb, receive=4096)).status == sg.UNIT_ATTENTION:
        pass
    assert refused.status == NOT_READY
    sg3("sg_stpg", "--tp=0", "--state=0", disk)
    assert group_file(backstore, "alua_access_state") == "0"
    write(disk, 0)
    assert read(disk, 0) == PAGE


def test_the_groups_of_several_ports(
    remote_disk: Path, backstore: Backstore, second_port: IscsiTarget
) -> None:
    """A group of the administrator's, with a port of its own."""
    group = backstore.path / "alua/second"
    group.mkdir()
    try:
        backstore.store("alua/second/tg_pt_gp_id", 0x17)
        (second_port.group / "lun/lun_0/alua_tg_pt_gp").write_text("second")
        backstore.store("alua/second/alua_access_state", 1)
        text = sg3("sg_rtpg", "--decode", remote_disk)
        assert re.findall(r"group id : (0x\w+) .*?state : (0x\w+).*?ids:\n +(0x\w+)", text, re.DOTALL) == [
            ("0x0", "0x00", "0x01"),
            ("0x17", "0x01", "0x02"),
        ]
        # the ring does not say through which port a command came
        assert "Target port group" not in sg3("sg_vpd", "-p", "di", remote_disk)
        sg3("sg_stpg", "--tp=0x17", "--state=0", remote_disk)
        assert backstore.show("alua/second/alua_access_state") == "0"
    finally:
        second_port.delete()
        group.rmdir()


def test_states_that_may_not_be_set_explicitly(disk: Path, backstore: Backstore) -> None:
    backstore.store("alua/default_tg_pt_gp/alua_access_type", 1)  # implicit only
    assert "TPGS=1" in sg3("sg_inq", disk)
    assert "Invalid opcode" in sg3("sg_stpg", "--tp=0", "--state=2", disk)
    assert group_file(backstore, "alua_access_state") == "0"
    assert (0xA4, 0x0A) not in listed(disk)


def test_a_device_without_alua(backstore: Backstore, loopback: Loopback) -> None:
    backstore.store("attrib/alua_support", 0)
    disk = loopback.add(backstore)
    assert "TPGS=0" in sg3("sg_inq", disk)


# -- what it does to data -------------------------------------------------------------------------------


def test_sg_xcopy(disk: Path) -> None:
    write(disk, 0, PAGE * 4)
    sg3("sg_xcopy", f"if={disk}", f"of={disk}", "bs=512", "count=32", "seek=512")
    assert read(disk, 64, 5) == PAGE * 4 + zeroes()


def test_sg_xcopy_does_not_reach_other_luns(
    disk: Path, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """LIO does not tell who asks, so nobody can know whether he may use the other LUN (CVE-2020-28374)."""
    other = loopback.add(make_backstore(f"file/{tmp_path}/other.img", SIZE), lun=1)
    write(disk, 0)
    write(other, 0, PAGE[::-1])
    assert attempt("sg_xcopy", f"if={disk}", f"of={other}", "bs=512", "count=8").status != 0
    assert attempt("sg_xcopy", f"if={other}", f"of={disk}", "bs=512", "count=8").status != 0
    assert read(disk, 0) == PAGE
    assert read(other, 0) == PAGE[::-1]


def compare_and_write(disk: Path, data: Path) -> Ended:
    return attempt("sg_compare_and_write", f"--in={data}", "--lba=16", "--num=8", "--xferlen=8192", disk)


def test_sg_compare_and_write(disk: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(zeroes() + PAGE)
    assert compare_and_write(disk, data).status == 0
    assert read(disk, 2) == PAGE
    missed = compare_and_write(disk, data)  # it is no longer zero: byte 1 of PAGE is the first that differs
    assert missed.status == MISCOMPARE
    assert "offset" in missed.errors
    assert re.search(r"(0x1\b|: 1\b|= *1\b)", missed.errors), missed.errors
    assert read(disk, 2) == PAGE


@pytest.mark.parametrize("cdb", [(), ("--16",)])
def test_sg_verify(cdb: tuple[str, ...], disk: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(PAGE)
    write(disk, 1)
    verify = ("sg_verify", *cdb, "--lba=8", "--count=8")
    compare = (*verify, f"--in={data}", "--ndo=4096")
    sg3(*verify, disk)
    sg3(*compare, disk)
    write(disk, 1, zeroes())
    sg3(*compare, disk, expect=MISCOMPARE)
    sg3("sg_verify", *cdb, f"--lba={SIZE // 512}", "--count=1", disk, expect=OUT_OF_RANGE)


def provisioning(disk: Path, lba: int) -> list[tuple[int, int, int]]:
    """(first block, blocks, provisioning status) of what GET LBA STATUS tells from a block on."""
    text = sg3("sg_get_lba_status", f"--lba={lba}", "--maxlen=4096", "--brief", disk)
    lines = re.findall(r"^\s*(?:0x)?([0-9a-f]+)\s+(?:0x)?([0-9a-f]+)\s+(\d)\s+\d\s*$", text, re.MULTILINE)
    assert lines, text
    return [(int(first, 16), int(count, 16), int(status)) for first, count, status in lines]


MAPPED, DEALLOCATED = 0, 1  # SBC-4 table 78


def test_sg_get_lba_status(disk: Path) -> None:
    write(disk, 256, PAGE * 256)  # one MiB at one MiB
    assert provisioning(disk, 0)[:3] == [
        (0, 2048, DEALLOCATED),
        (2048, 2048, MAPPED),
        (4096, SIZE // 512 - 4096, DEALLOCATED),
    ]
    assert provisioning(disk, 3000)[0] == (3000, 1096, MAPPED)


def test_sg_unmap(disk: Path) -> None:
    write(disk, 0, PAGE * 512)
    sg3("sg_unmap", "--force", "--lba=1024", "--num=1024", disk)
    assert read(disk, 127, 130) == PAGE + zeroes(128) + PAGE
    assert provisioning(disk, 0)[:3] == [(0, 1024, MAPPED), (1024, 1024, DEALLOCATED), (2048, 2048, MAPPED)]
    sg3("sg_unmap", "--force", "--lba=0,3000", "--num=1,8", disk)  # two descriptors, not aligned
    assert read(disk, 0)[:1024] == bytes(512) + PAGE[512:1024]
    assert read(disk, 375) == zeroes()


def test_sg_write_same(disk: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(range(255, -1, -1)) * 2)
    write(disk, 0, PAGE * 300)
    sg3("sg_write_same", "--10", f"--in={data}", "--lba=8", "--num=16", disk)
    sg3("sg_write_same", "--16", f"--in={data}", "--lba=32", "--num=8", disk)
    pattern = data.read_bytes() * 8
    assert read(disk, 0, 6) == PAGE + pattern * 2 + PAGE + pattern + PAGE
    sg3("sg_write_same", "--16", "--ndob", "--lba=8", "--num=8", disk)
    assert read(disk, 0, 3) == PAGE + zeroes() + pattern
    sg3("sg_write_same", "--unmap", "--16", "--lba=1024", "--num=1024", disk)
    assert read(disk, 127, 130) == PAGE + zeroes(128) + PAGE
    assert (1024, 1024, DEALLOCATED) in provisioning(disk, 0)


# -- work that takes long -------------------------------------------------------------------------------


def test_sg_format(disk: Path) -> None:
    write(disk, 0, PAGE * 256)
    assert "Number of blocks=131072" in sg3("sg_format", disk)
    sg3("sg_format", "--format", "--quick", "--wait", disk)  # ends when the format has
    assert read(disk, 0, 256) == zeroes(256)
    assert provisioning(disk, 0)[0] == (0, SIZE // 512, DEALLOCATED)
    assert "131072" in sg3("sg_readcap", disk)


def in_progress(disk: Path, what: str) -> None:
    """Other commands are refused, REQUEST SENSE tells how far it is."""
    refused = sg.raw(disk, "28 00 00000000 00 0008 00", receive=4096)
    assert refused.status == NOT_READY
    assert what in refused.text
    assert re.search(r"rogress indication: \d+", sg3("sg_requests", "--progress", disk))


def test_sg_format_returns_before_it_is_done(slow_disk: Path, gate: Path) -> None:
    write(slow_disk, 0)
    command("udevadm", "settle")  # Linux waits 100 s for a disk that is not ready when somebody opens it
    sg3("sg_format", "--format", "--quick", "--early", generic(slow_disk))
    in_progress(slow_disk, "format in progress")
    sg3("sg_inq", generic(slow_disk))
    gate.touch()
    eventually("a formatted disk", lambda: attempt("sg_turs", slow_disk).status == 0)
    assert read(slow_disk, 0) == zeroes()


def test_sg_sanitize_returns_before_it_is_done(slow_disk: Path, gate: Path, tmp_path: Path) -> None:
    pattern = tmp_path / "pattern"
    pattern.write_bytes(b"\xa5\x5a\x3c\xc3")
    options = ("--overwrite", f"--pattern={pattern}", "--ipl=4", "--quick", "--early")
    sg3("sg_sanitize", *options, generic(slow_disk))
    in_progress(slow_disk, "anitize in progress")
    half = SIZE // len(PAGE) // 2
    eventually("half of it done", lambda: "50" in sg3("sg_requests", "--progress", generic(slow_disk)))
    sg3("sg_reset", "--device", "--no-escalate", generic(slow_disk))
    attempt("sg_turs", generic(slow_disk))  # takes the unit attention
    in_progress(slow_disk, "anitize in progress")  # a reset does not end it (SBC-4 4.11.2)
    gate.touch()
    eventually("a sanitized disk", lambda: attempt("sg_turs", slow_disk).status == 0)
    Path(f"/sys/block/{slow_disk.name}/device/rescan").write_text("1")  # Linux believes it is empty
    for page in (0, half, 2 * half - 1):
        assert read(slow_disk, page) == pattern.read_bytes() * 1024


def test_sg_sanitize(disk: Path) -> None:
    write(disk, 0, PAGE * 256)
    sg3("sg_sanitize", "--overwrite", "--zero", "--quick", "--wait", disk)
    assert read(disk, 0, 256) == zeroes(256)
    write(disk, 0, PAGE * 256)
    sg3("sg_sanitize", "--block", "--quick", "--wait", disk)
    assert read(disk, 0, 256) == zeroes(256)
    assert provisioning(disk, 0)[0] == (0, SIZE // 512, DEALLOCATED)
    sg3("sg_sanitize", "--crypto", "--quick", "--wait", disk, expect=ILLEGAL_REQUEST)  # it has no key


# -- initiators -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("place_for_reservations")
def test_sg_persist(backstore: Backstore) -> None:
    target = IscsiTarget().create(backstore)
    mine, other = (Initiator(number).login(target) for number in range(2))
    sg3("sg_persist", "--out", "--register", "--param-sark=abc", mine)
    sg3("sg_persist", "--out", "--reserve", "--param-rk=abc", "--prout-type=1", mine)  # write exclusive
    assert "0xabc" in sg3("sg_persist", "--read-keys", other)
    assert "type: Write Exclusive" in sg3("sg_persist", "--read-reservation", other)
    write(mine, 0)
    sg3("sg_write_same", "--lba=0", "--num=8", other, expect=CONFLICT)
    assert read(other, 0) == PAGE
    sg3("sg_persist", "--out", "--register", "--param-sark=def", other)
    sg3("sg_persist", "--out", "--preempt", "--param-rk=def", "--param-sark=abc", "--prout-type=1", other)
    sg3("sg_write_same", "--lba=0", "--num=8", other)
    sg3("sg_write_same", "--lba=0", "--num=8", mine, expect=CONFLICT)
    sg3("sg_persist", "--out", "--clear", "--param-rk=def", other)
    assert "NO" in sg3("sg_persist", "--read-keys", mine)
    sg3("sg_write_same", "--lba=0", "--num=8", mine)


def test_sg_reset(disk: Path) -> None:
    write(disk, 0)
    set_write_protect(disk, on=True)
    assert "starting device reset" in sg3("sg_reset", "--verbose", "--device", "--no-escalate", generic(disk))
    assert "WP=0" in sg3(
        "sg_modes", "-a", generic(disk)
    )  # mode pages have their default values again (SAM-5 6.3.3)
    sg3("sg_write_same", "--lba=0", "--num=8", generic(disk))
    assert read(disk, 0) == zeroes()
