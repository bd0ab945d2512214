from tcmu_runner.ring.ticket import COMMUNICATION_FAILURE, INVALID_FIELD, Ticket


def test_answers_of_the_kernel() -> None:
    """SPC-4 4.5.3 fixed format: response code 70h, sense key in byte 2, additional length, ASC and ASCQ."""
    not_ready = bytes.fromhex("70 00 02 00 00 00 00 0a 00 00 00 00 08 00")
    illegal_request = bytes.fromhex("70 00 05 00 00 00 00 0a 00 00 00 00 24 00")
    assert (0x02, not_ready + bytes(82)) == COMMUNICATION_FAILURE
    assert (0x02, illegal_request + bytes(82)) == INVALID_FIELD


def test_a_ticket_ends() -> None:
    ticket = Ticket(bytes(6), memoryview(b""), 0)
    assert repr(ticket) == "<Ticket 0: CDB 000000000000, status None>"
    ticket.end(0x02, b"sense")
    assert (ticket.status, ticket.sense, ticket.data) == (2, b"sense", b"")
