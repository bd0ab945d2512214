"""A handler in a process of its own, as tcmu-synthesizer is one: `external_handler.py SUBTYPE` registers it
and answers for its devices, which it does not serve."""

import asyncio
import sys

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from tcmu_runner.kernel.netlink import TcmuNetlink

SERVICE, ROOT = "org.kernel.TCMUService1", "/org/kernel/TCMUService1"


def answer(message: Message) -> "Message | None":
    if message.message_type is not MessageType.METHOD_CALL or message.member != "CheckConfig":
        return None
    good = message.body[0].endswith("good")
    return Message.new_method_return(message, "bs", [good, "" if good else "it is bad"])


async def live(subtype: str) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.add_message_handler(answer)
    await bus.request_name(f"{SERVICE}.HandlerManager1.{subtype}")
    manager = f"{SERVICE}.HandlerManager1"
    register = Message(SERVICE, f"{ROOT}/HandlerManager1", manager, "RegisterHandler", signature="ss")
    register.body = [subtype, "of a test"]
    reply = await bus.call(register)
    print(reply.body, flush=True)
    with TcmuNetlink() as netlink:
        while True:
            await asyncio.sleep(0.05)
            for event in netlink.receive():
                if f"/{subtype}/" in event.device:
                    netlink.reply(event, 0)


asyncio.run(live(sys.argv[1]))
