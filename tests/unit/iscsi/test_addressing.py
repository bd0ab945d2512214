"""LUN fields: SAM-5 4.7.7."""

import pytest

from tcmu_runner.iscsi.addressing import lun_address, lun_list, lun_number


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("0000000000000000", 0),  # peripheral device addressing, bus 0
        ("00ff000000000000", 255),
        ("4100000000000000", 256),  # flat space addressing
        ("7fff000000000000", 16383),
        ("4001000000000000", 1),
    ],
)
def test_numbers(field: str, number: int) -> None:
    assert lun_number(bytes.fromhex(field)) == number


@pytest.mark.parametrize(
    "field", ["c101000000000000", "8000000000000000", "0100000000000000", "0000000100000000"]
)
def test_addresses_we_give_nobody(field: str) -> None:
    assert lun_number(bytes.fromhex(field)) == -1


@pytest.mark.parametrize("number", [0, 1, 255, 256, 16383])
def test_round_trip(number: int) -> None:
    assert lun_number(lun_address(number)) == number


def test_list() -> None:
    """SPC-5 table 298: length of the list, four reserved bytes, then the LUNs."""
    assert lun_list([300, 1]).hex() == "00000010 00000000 0001000000000000 412c000000000000".replace(" ", "")
