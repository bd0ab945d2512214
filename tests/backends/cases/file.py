"""`file`: the plainest backend there is."""

from harness import NO_SERVER, Backend, Case


class FileBackend(Backend):
    @property
    def config(self) -> str:
        return f"file/{self.directory}/disk.img"


CASES = [Case("file", FileBackend, without=NO_SERVER)]
