"""`cow`, over a file that is never written."""

from harness import NO_SERVER, Backend, Case, stack


class CowBackend(Backend):
    @property
    def settings(self) -> str:
        layer = f'{{ filter = "cow", directory = "{self.directory}" }}'
        return stack("snap", "file", layer)

    @property
    def config(self) -> str:
        return f"snap/{self.directory}/below.img"


CASES = [Case("cow", CowBackend, without=NO_SERVER)]
