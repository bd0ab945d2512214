"""Requests against the stub; KernelPort against this machine's kernel, which needs no TCMU for it."""

import errno
import socket

import pytest

from tcmu_runner.kernel import genl
from tcmu_runner.kernel.genl import Message, NetlinkError
from tcmu_runner.kernel.netlink_port import KernelPort, NetlinkRefused, Requests

from .stub import FAMILY_ID, StubKernel


def ask_family(requests: Requests, name: str = "TCM-USER") -> list[Message]:
    return requests.ask(f"netlink family {name}", lambda seq: genl.encode_get_family(name, seq))


def test_answer_comes_before_the_acknowledgement() -> None:
    requests = Requests(StubKernel().port(1))
    (answer,) = ask_family(requests)
    assert genl.decode_family(answer).id == FAMILY_ID
    requests.close()


def test_refusal_carries_errno_and_remedy() -> None:
    kernel = StubKernel()
    kernel.module_loaded = False
    requests = Requests(kernel.port(1))
    with pytest.raises(NetlinkRefused, match=r"TCM-USER: .*modprobe target_core_user") as caught:
        ask_family(requests)
    assert caught.value.errno == errno.ENOENT
    requests.close()


def test_no_acknowledgement_is_an_error_not_a_hang() -> None:
    kernel = StubKernel()
    kernel.acknowledgements = 0
    requests = Requests(kernel.port(1))
    with pytest.raises(NetlinkError, match="no answer from the kernel"):
        ask_family(requests)
    requests.close()


def test_late_acknowledgements_are_not_taken_for_the_next_request() -> None:
    kernel = StubKernel()
    kernel.module_loaded = False
    kernel.late = True
    requests = Requests(kernel.port(1))
    with pytest.raises(NetlinkError, match="no answer"):
        ask_family(requests)
    kernel.late, kernel.module_loaded = False, True
    assert len(ask_family(requests)) == 1  # the late ENOENT lies before it in the socket
    requests.close()


def test_repeated_acknowledgements_are_passed_over() -> None:
    kernel = StubKernel()
    kernel.acknowledgements = 2
    requests = Requests(kernel.port(1))
    assert [len(ask_family(requests)) for _ in range(3)] == [1, 1, 1]
    requests.close()


def test_answers_that_a_process_forges_are_ignored() -> None:
    kernel = StubKernel()
    port = kernel.port(1)
    refusal = Message(2, 0, 1, (-errno.EPERM).to_bytes(4, "little", signed=True) + bytes(16)).encode()
    port.queue(refusal, sender=4711)
    requests = Requests(port)
    assert len(ask_family(requests)) == 1
    requests.close()


def test_kernel_port_asks_this_kernel_for_its_controller() -> None:
    requests = Requests(KernelPort(5))
    (answer,) = ask_family(requests, "nlctrl")
    assert genl.decode_family(answer).id == 0x10  # GENL_ID_CTRL
    with pytest.raises(NetlinkRefused) as caught:
        ask_family(requests, "no-such-family")
    assert caught.value.errno == errno.ENOENT
    requests.close()


def test_kernel_port_joins_with_a_large_buffer_and_does_not_block() -> None:
    requests = Requests(KernelPort(5))
    (answer,) = ask_family(requests, "nlctrl")
    port = KernelPort(0)
    with socket.socket(fileno=socket.dup(port.fileno())) as same:
        before = same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        port.join(genl.decode_family(answer).groups["notify"])
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= before
    with pytest.raises(BlockingIOError):
        port.receive()
    port.close()
    requests.close()
