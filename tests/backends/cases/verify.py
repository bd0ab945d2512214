"""`verify`, over a file; its checksums are in the file system that is filled up, too."""

from harness import NO_SERVER, Backend, Case


class VerifyBackend(Backend):
    @property
    def settings(self) -> str:  # type: ignore[override]
        layer = f'{{ filter = "verify", directory = "{self.directory}" }}'
        return f'[stacks.checked]\nhandler = "file"\nfilters = [{layer}]\n'

    @property
    def config(self) -> str:
        return f"checked/{self.directory}/disk.img"


CASES = [Case("verify", VerifyBackend, without=NO_SERVER)]
