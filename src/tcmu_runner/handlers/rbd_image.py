"""An open RBD image: connection, asynchronous operations that end by an eventfd, lock, size."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, create_string_buffer, string_at
from dataclasses import dataclass

from tcmu_runner.handlers import librbd
from tcmu_runner.handlers.librbd import BATCH, EVENTFD, EXCLUSIVE, THICK, OnChange, OnExtent, check
from tcmu_runner.handlers.rbd_holder import KEY, LockOwner
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Extent
from tcmu_runner.syscalls import vector, writable

Submit = Callable[[c_void_p], int]  # starts an operation that ends by this completion


@dataclass(frozen=True, slots=True)
class RbdPlace:
    """An image's place. namespace, snapshot, conf, client: empty for none, or for Ceph's defaults. settings:
    of librados and librbd; they override the configuration file."""

    pool: str
    namespace: str
    image: str
    snapshot: str
    conf: str
    client: str
    settings: Mapping[str, str]

    def __str__(self) -> str:
        return "/".join(filter(None, (self.pool, self.namespace, self.image)))


class Cluster:
    """A connection for one image: fencing a client must not cut off other images."""

    def __init__(self, place: RbdPlace) -> None:
        """Blocks. Raises OSError or ConfigError: nothing is left open then."""
        self._rados, _ = librbd.load()
        self.handle, self.io = c_void_p(), c_void_p()
        client = f"client.{place.client or 'admin'}"
        create = self._rados.rados_create2(byref(self.handle), b"ceph", client.encode(), 0)
        check(create, f"{place}: librados")
        try:
            self._connect(place, client)
        except BaseException:
            self.close()
            raise

    def _connect(self, place: RbdPlace, client: str) -> None:
        conf = place.conf.encode() or None
        found = self._rados.rados_conf_read_file(self.handle, conf)
        check(found, f"{place}: the configuration {place.conf or '/etc/ceph/ceph.conf'} cannot be read")
        for name, value in place.settings.items():
            check(self._rados.rados_conf_set(self.handle, name.encode(), value.encode()), f"setting {name}")
        connected = self._rados.rados_connect(self.handle)
        check(connected, f"{place}: no connection to the cluster as {client}; look at `ceph -s`")
        pool = self._rados.rados_ioctx_create(self.handle, place.pool.encode(), byref(self.io))
        check(pool, f"{place}: no pool {place.pool}; look at `ceph osd pool ls`")
        if place.namespace:
            self._rados.rados_ioctx_set_namespace(self.io, place.namespace.encode())

    def register(self, daemon: str, metadata: Mapping[str, str]) -> None:
        """Makes it visible in `ceph service status`."""
        registered = self._rados.rados_service_register(
            self.handle, b"tcmu-runner", daemon.encode(), _pairs(metadata)
        )
        check(registered, "service report")

    def tell_status(self, status: Mapping[str, str]) -> None:
        check(self._rados.rados_service_update_status(self.handle, _pairs(status)), "service report")

    def address(self) -> str:
        """This client's address and nonce, as Ceph shows the owner of a lock."""
        text = c_void_p()
        check(self._rados.rados_getaddrs(self.handle, byref(text)), "rados_getaddrs")
        try:
            return string_at(text.value or 0).decode()
        finally:
            self._rados.rados_buffer_free(text)

    def close(self) -> None:
        if self.io:
            self._rados.rados_ioctx_destroy(self.io)
        self._rados.rados_shutdown(self.handle)


class RbdImage:
    """One open image. Constructor and `close` block: call them off the loop. Operations are for the loop's
    thread; all other methods may be called on any thread."""

    def __init__(self, place: RbdPlace, *, read_only: bool) -> None:
        """Blocks. Raises OSError or ConfigError: nothing is left open then."""
        self.cluster = Cluster(place)
        _, self._rbd = librbd.load()
        self._image = c_void_p()
        self._place = place
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._done = (c_void_p * BATCH)()
        self._changed: object = None
        self._watch = c_uint64()
        open_image = self._rbd.rbd_open_read_only if read_only else self._rbd.rbd_open
        snapshot = place.snapshot.encode() or None
        opened = open_image(self.cluster.io, place.image.encode(), byref(self._image), snapshot)
        try:
            check(opened, f"{place} cannot be opened; look at `rbd info {place}`")
        except OSError:
            self.cluster.close()
            raise
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._rbd.rbd_set_image_notification(self._image, self._event, EVENTFD)
        self.stripe_unit = self._ask(self._rbd.rbd_get_stripe_unit, c_uint64())

    # -- what blocks ----------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes."""
        return self._ask(self._rbd.rbd_get_size, c_uint64())

    def resize(self, size: int) -> None:
        check(self._rbd.rbd_resize(self._image, size), f"{self._place} cannot be resized")

    def id(self) -> str:
        text = create_string_buffer(64)
        check(self._rbd.rbd_get_id(self._image, text, len(text)), "rbd_get_id")
        return text.value.decode()

    def lock(self) -> None:
        """Takes the exclusive lock until `close`; fences a dead client that has it. Raises OSError (EROFS,
        EBUSY) when a living one keeps it."""
        taken = self._rbd.rbd_lock_acquire(self._image, EXCLUSIVE)
        check(taken, f"{self._place} is locked by another host; look at `rbd lock ls {self._place}`")

    def free_lock(self) -> None:
        """If the process of this host that last had the image open died with the lock, fences it and breaks
        the lock; then leaves a note of this process."""
        note = create_string_buffer(256)
        size = c_size_t(len(note))
        if self._rbd.rbd_metadata_get(self._image, KEY, note, byref(size)) >= 0:
            holder = LockOwner.parse(note.value.decode(errors="replace"))
            if holder is not None and holder.is_dead(self._owner()):
                broken = self._rbd.rbd_lock_break(self._image, EXCLUSIVE, holder.client.encode())
                check(broken, f"{self._place}: the lock of process {holder.pid}, which is dead, stays")
        mine = str(LockOwner.me(self.cluster.address()))
        check(self._rbd.rbd_metadata_set(self._image, KEY, mine.encode()), "note of who has the image open")

    def _owner(self) -> str:
        """The client that has the exclusive lock; empty: none."""
        mode, count, owners = c_int(), c_size_t(1), (c_char_p * 1)()
        if self._rbd.rbd_lock_get_owners(self._image, byref(mode), owners, byref(count)) < 0:
            return ""
        owner = owners[0] or b""
        self._rbd.rbd_lock_get_owners_cleanup(owners, count)
        return owner.decode()

    def _ask(self, function: Callable[..., int], answer: c_uint64 | c_int) -> int:
        check(function(self._image, byref(answer)), f"{self._place}: {function.__name__}")
        return answer.value

    def compare_and_write(self, expected: bytes, data: bytes, offset: int) -> int | None:
        """Within one stripe unit only. The offset of the first differing byte; None when it has written."""
        at = c_uint64()
        result = self._rbd.rbd_compare_and_write(self._image, offset, len(data), expected, data, byref(at), 0)
        if result == -librbd.MISCOMPARE:
            return at.value
        check(result, "compare and write")
        return None

    def extents(self, offset: int, length: int, block_size: int) -> list[Extent]:
        """The extents of the range, without gaps; a block that is partly data counts as data."""
        data: list[tuple[int, int]] = []

        def found(start: int, size: int, exists: int, _: object) -> int:
            if exists:
                first = max(start // block_size * block_size, data[-1][1] if data else offset)
                data.append((first, -(-(start + size) // block_size) * block_size))
            return 0

        iterated = self._rbd.rbd_diff_iterate2(self._image, None, offset, length, 1, 0, OnExtent(found), None)
        check(iterated, "extents")
        return list(_tiles(data, offset, offset + length))

    # -- what happens outside -------------------------------------------------------------------------

    def watch(self, changed: Callable[[], None]) -> None:
        """`changed` is called when another client resizes the image, on a thread of librbd."""
        self._changed = OnChange(lambda _: changed())
        check(self._rbd.rbd_update_watch(self._image, byref(self._watch), self._changed, None), "watch")

    def close(self) -> None:
        """Blocks. Call when no operation is under way."""
        if self._changed is not None:
            self._rbd.rbd_update_unwatch(self._image, self._watch)
        self._rbd.rbd_close(self._image)
        os.close(self._event)
        self.cluster.close()

    # -- operations -----------------------------------------------------------------------------------

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._event, self._take)

    def deafen(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._event)

    async def drained(self) -> None:
        """Waits until no operation is under way."""
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()))

    async def read(self, into: Buffers, offset: int) -> None:
        pieces = vector(into)
        submit = self._rbd.rbd_aio_readv
        await self._do("read", lambda done: submit(self._image, pieces, len(into), offset, done))

    async def write(self, data: Buffers, offset: int) -> None:
        data = writable(data)
        pieces = vector(data)
        submit = self._rbd.rbd_aio_writev
        await self._do("write", lambda done: submit(self._image, pieces, len(data), offset, done))

    async def flush(self) -> None:
        await self._do("flush", lambda done: self._rbd.rbd_aio_flush(self._image, done))

    async def discard(self, offset: int, length: int) -> None:
        submit = self._rbd.rbd_aio_discard
        await self._do("discard", lambda done: submit(self._image, offset, length, done))

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        submit, flags = self._rbd.rbd_aio_write_zeroes, 0 if unmap else THICK
        await self._do("write zeroes", lambda done: submit(self._image, offset, length, done, flags, 0))

    async def write_same(self, offset: int, length: int, block: bytes) -> None:
        submit, size = self._rbd.rbd_aio_writesame, len(block)
        await self._do("write same", lambda done: submit(self._image, offset, length, block, size, done, 0))

    async def _do(self, what: str, submit: Submit) -> None:
        """Ends with the operation; until then the closure `submit` keeps vectors and buffers alive."""
        done = c_void_p()
        check(self._rbd.rbd_aio_create_completion(None, None, byref(done)), what)
        assert done.value is not None
        future = self._waiting[done.value] = asyncio.get_running_loop().create_future()
        refused = submit(done)
        if refused < 0:
            del self._waiting[done.value]
            self._rbd.rbd_aio_release(done)
        check(refused, f"{what} of {self._place}")
        check(await future, f"{what} of {self._place}")

    def _take(self) -> None:
        """Fetches completions and ends their futures; the eventfd may be signalled without any."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        while (count := self._rbd.rbd_poll_io_events(self._image, self._done, BATCH)) > 0:
            for number in range(count):
                done = self._done[number]
                assert done is not None
                result = self._rbd.rbd_aio_get_return_value(done)
                self._rbd.rbd_aio_release(done)
                self._waiting.pop(done).set_result(result)
            if count < BATCH:
                return


def _tiles(data: list[tuple[int, int]], offset: int, end: int) -> Iterator[Extent]:
    for start, stop in (*data, (end, end)):
        if start > offset:
            yield Extent(offset, min(start, end) - offset, mapped=False)
            offset = min(start, end)
        if min(stop, end) > offset:
            yield Extent(offset, min(stop, end) - offset, mapped=True)
            offset = min(stop, end)


def _pairs(texts: Mapping[str, str]) -> bytes:
    """Keys and values, each NUL-terminated, with one NUL at the end."""
    return b"".join(f"{key}\0{value}\0".encode() for key, value in texts.items()) + b"\0"
