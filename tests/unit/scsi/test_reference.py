from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reference import cdb_bits, commands


def test_every_row_has_its_line() -> None:
    lines = commands().splitlines()
    assert lines[:2] == ["| Opcode | Command | CDB bytes | Offered |", "| --- | --- | --- | --- |"]
    assert len(lines) == 2 + len(list(DISK))
    assert "| 28h | READ(10) | 10 | always |" in lines
    assert "| 42h | UNMAP | 10 | where the storage can unmap |" in lines
    assert "| 9Eh/10h | READ CAPACITY(16) | 16 | always |" in lines


def test_each_bit_has_its_line() -> None:
    refused, _, ignored = cdb_bits().partition("## Ignored")
    assert "| NACA | last byte bit 2 | all | " in refused
    assert "| ANCHOR | byte 1 bit 4 | 41h, 93h | " in refused
    assert "| LUN | byte 1 bits 7-5 | 00h, 03h, " in ignored
    assert (
        "| 83h/00h | EXTENDED COPY(LID1) | 83 00 00 00 00 00 00 00 00 00 ff ff ff ff 00 00 | - | - |"
        in ignored
    )
    assert "| 12h | INQUIRY | 12 01 ff ff ff 00 | CMDDT (byte 1 bit 1) | LUN (byte 1 bits 7-5) |" in ignored
    assert len(ignored.partition("## Command by command")[2].splitlines()) == 4 + len(list(DISK))


def test_no_line_is_left_empty() -> None:
    lines = [line for line in (commands() + cdb_bits()).splitlines() if line.startswith("|")]
    assert all(cell.strip() for line in lines for cell in line.strip("|").split("|"))
