"""The TCMU ring: passes SCSI commands between the kernel and a worker through shared memory.

area: the mapping of one device: mailbox, command ring, data area
mailbox: its first 128 bytes: what the kernel can do, and the ring's head (the kernel's) and tail (ours)
slot: the place of a fetched entry: it takes the completion of any one command
block: the unit in which the kernel gives out the data area; runs of adjacent blocks are one iov
doorbell: the write to the UIO device that has the kernel process completions up to the tail

blocks       the data area: which blocks the kernel gives out
consumer     Consumer, our side: takes commands, puts completions back
entry        decodes entries without trusting them, encodes them for the producer
layout       offsets and flags of the shared memory, as target_core_user.h has them
outstanding  commands on the ring: their ids, blocks and entries, and what a completion answers
producer     Producer, the kernel's side, for tests and the embedded mode
ticket       the state of a command that was submitted to the producer
writer       entries at the head, completed slots back
"""

from tcmu_runner.ring.consumer import Consumer, Request, RingCorrupt, RingReset, TaskManagement
from tcmu_runner.ring.layout import ARM32, I386, LP64, Layout, MailboxFlag, TmrType
from tcmu_runner.ring.producer import Producer, ProducerAlarm, Ticket

__all__ = [
    "ARM32",
    "I386",
    "LP64",
    "Consumer",
    "Layout",
    "MailboxFlag",
    "Producer",
    "ProducerAlarm",
    "Request",
    "RingCorrupt",
    "RingReset",
    "TaskManagement",
    "Ticket",
    "TmrType",
]
