"""What the status page is told."""

import json
import logging

from tcmu_runner.engine.observe.statistics import BUCKETS, Statistics
from tcmu_runner.engine.observe.view import DeviceEvent, State
from tcmu_runner.web.report import report

from .watched import Watched, like_vol0


def test_a_device() -> None:
    (device,) = report(Watched())["devices"]
    latency = device.pop("latency")
    assert device == {
        "name": "user_0/vol0",
        "minor": 4,
        "handler": "file",
        "config": "file//srv/vol0.img",
        "size": 1 << 30,
        "blockSize": 512,
        "state": "serving",
        "since": 1000.0,
        "lastError": "",
        "trouble": "",
        "restarts": 2,
        "pid": 77,
        "queue": 3,
        "oldest": 0.0,
        "reads": {"count": 2, "bytes": 8192},
        "writes": {"count": 1, "bytes": 8192},
        "others": {"count": 1, "bytes": 0},
        "errors": [["MEDIUM ERROR 11/00 (unrecovered read error)", 1], ["BUSY", 1]],
        "commands": [
            ["READ(10)", 2, 8192, 1, 200, 128],
            ["WRITE(10)", 1, 8192, 0, 3000, 4096],
            ["SYNCHRONIZE CACHE(10)", 1, 0, 1, 500000, 524288],
        ],
    }
    # 100 us is less than 2^7, 3 ms less than 2^12; what a flush takes says nothing of reads and writes
    assert {bucket: count for bucket, count in enumerate(latency) if count} == {7: 2, 12: 1}


def test_a_device_that_has_done_nothing() -> None:
    idle = like_vol0(statistics=Statistics().snapshot(), state=State.FAILED, last_error="no such file")
    (device,) = report(Watched([idle]))["devices"]
    assert (device["state"], device["lastError"]) == ("failed", "no such file")
    assert device["latency"] == [0] * BUCKETS
    assert device["reads"] == device["writes"] == device["others"] == {"count": 0, "bytes": 0}


def test_events() -> None:
    watched = Watched(events=[DeviceEvent(7.5, "user_0/vol0", logging.ERROR, "refused")])
    assert report(watched)["events"] == [
        {"time": 7.5, "device": "user_0/vol0", "level": "error", "text": "refused"}
    ]


def test_bytes_that_are_no_text_can_be_sent_and_read() -> None:
    hostile = b'user_0/\xff"\n</script>'.decode(errors="surrogateescape")
    watched = Watched([like_vol0(name=hostile, config=hostile)], [DeviceEvent(1, hostile, logging.INFO, "x")])
    told = json.loads(json.dumps(report(watched)).encode())
    assert told["devices"][0]["name"] == told["events"][0]["device"] == 'user_0/\\xff"\n</script>'
