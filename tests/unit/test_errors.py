import errno

import pytest

from tcmu_runner.errors import ConfigError, explain


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            MemoryError(),
            errno.ENOMEM,
            "out of memory: raise workers.memory in the settings, free some, or set a smaller dev_size",
        ),
        (ConfigError("no"), errno.EINVAL, "no"),
        (TimeoutError(), errno.ETIMEDOUT, "the handler did not answer in time: is its storage reachable?"),
        (OSError(errno.EFBIG, "long"), errno.EFBIG, "[Errno 27] long"),
        (KeyError("x"), errno.EIO, "bug in the handler: KeyError: 'x'"),
    ],
)
def test_what_an_administrator_gets(error: Exception, code: int, text: str) -> None:
    assert explain(error) == (code, text)
