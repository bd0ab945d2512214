"""`verify`, over a file; its checksums are in the file system that is filled up, too."""

from harness import NO_SERVER, Backend, Case, stack


class VerifyBackend(Backend):
    @property
    def settings(self) -> str:
        layer = f'{{ filter = "verify", directory = "{self.directory}" }}'
        return stack("checked", "file", layer)

    @property
    def config(self) -> str:
        return f"checked/{self.directory}/disk.img"


CASES = [Case("verify", VerifyBackend, without=NO_SERVER)]
