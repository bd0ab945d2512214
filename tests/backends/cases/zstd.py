"""`zstd`: compressed chunks in a database."""

from harness import NO_SERVER, Backend, Case


class ZstdBackend(Backend):
    @property
    def config(self) -> str:
        return f"zstd/{self.directory}/disk.zdb"


# The last 8 MiB of the file system are for UNMAP.
CASES = [Case("zstd", ZstdBackend, room=28 << 20, without=NO_SERVER)]
