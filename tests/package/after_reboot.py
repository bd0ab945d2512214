"""What before_reboot.py has made is there again."""

from support import disk as raw
from support.configfs import Backstore
from support.iscsi import Initiator

from .before_reboot import OFFSET, PATTERN, TARGET, clean_slate
from .conftest import is_active, journal, systemctl

__all__ = ["clean_slate"]  # a fixture


def test_the_luns_are_back_and_have_their_data() -> None:
    assert is_active()
    assert systemctl("is-active", "rtslib-fb-targetctl.service").strip() == "active"
    for name in ("kept", "other"):
        assert any(Backstore(name, hba).path.exists() for hba in range(4)), name
    disk = Initiator().login(TARGET)
    assert raw.read(disk, OFFSET, 4096) == PATTERN
    assert "[ERROR]" not in journal("--boot")
