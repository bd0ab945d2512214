from tcmu_runner.scsi.sense import LBA_OUT_OF_RANGE, Sense


def test_fixed_format_without_anything_specific() -> None:
    # SPC-5 4.5.3 table 53: 70h, key in byte 2, additional length 0Ah in byte 7, ASC and ASCQ in 12 and 13
    assert Sense(5, 0x20, 0x00).encode().hex(" ") == "70 00 05 00 00 00 00 0a 00 00 00 00 20 00 00 00 00 00"


def test_fixed_format_with_information_sets_valid() -> None:
    # SPC-5 4.5.3: VALID (bit 7 of byte 0) says that INFORMATION (bytes 3 to 6) is defined
    sense = LBA_OUT_OF_RANGE.with_information(0x01020304).encode()
    assert sense.hex(" ") == "f0 00 05 01 02 03 04 0a 00 00 00 00 21 00 00 00 00 00"


def test_information_beyond_32_bits_only_fits_the_descriptor_format() -> None:
    # SPC-5 4.5.3: a value above FFFFFFFFh clears VALID in fixed format
    sense = LBA_OUT_OF_RANGE.with_information(0x123456789A)
    assert sense.encode()[0] == 0x70
    # SPC-5 4.5.2.2 table 30: descriptor 00h, additional length 0Ah, VALID, 8 bytes
    expected = "72 05 21 00 00 00 00 0c 00 0a 80 00 00 00 00 12 34 56 78 9a"
    assert sense.encode(descriptor=True).hex(" ") == expected


def test_field_pointer() -> None:
    # SPC-5 4.5.2.4.2 table 33: SKSV 80h, C/D 40h (error in the CDB), BPV 08h, bit pointer; then the byte
    sense = Sense(5, 0x24, 0x00).at(1, 3)
    assert sense.encode()[15:18].hex(" ") == "cb 00 01"
    assert Sense(5, 0x26, 0x00).at(0x102, in_cdb=False).encode()[15:18].hex(" ") == "80 01 02"
    # SPC-5 4.5.2.4.1 table 31: descriptor 02h, additional length 06h, sense key specific in bytes 4 to 6
    expected = "72 05 24 00 00 00 00 08 02 06 00 00 cb 00 01 00"
    assert sense.encode(descriptor=True).hex(" ") == expected


def test_progress_is_in_65536ths() -> None:
    # SPC-5 4.5.2.4.4 table 36
    assert Sense(2, 0x04, 0x04).with_progress(1, 4).encode()[15:18].hex(" ") == "80 40 00"


def test_progress_of_a_finished_operation_does_not_overflow() -> None:
    assert Sense(2, 0x04, 0x04).with_progress(1 << 50, 1 << 50).encode()[15:18].hex(" ") == "80 ff ff"
    assert Sense(2, 0x04, 0x04).with_progress(0, 0).encode()[15:18].hex(" ") == "80 00 00"


def test_deferred_errors_have_response_codes_of_their_own() -> None:
    # SPC-5 table 28: 71h deferred fixed, 73h deferred descriptor
    sense = Sense(3, 0x0C, 0x00, deferred=True)
    assert sense.encode()[0] == 0x71
    assert sense.encode(descriptor=True)[0] == 0x73
