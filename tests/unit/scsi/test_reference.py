from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reference import commands


def test_every_row_has_its_line() -> None:
    lines = commands().splitlines()
    assert lines[:2] == ["| Opcode | Command | CDB bytes | Offered |", "| --- | --- | --- | --- |"]
    assert len(lines) == 2 + len(list(DISK))
    assert "| 28h | READ(10) | 10 | always |" in lines
    assert "| 42h | UNMAP | 10 | where the storage can unmap |" in lines
    assert "| 9Eh/10h | READ CAPACITY(16) | 16 | always |" in lines


def test_no_line_is_left_empty() -> None:
    assert all(cell.strip() for line in commands().splitlines() for cell in line.strip("|").split("|"))
