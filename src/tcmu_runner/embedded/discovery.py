"""Which targets there are, for initiators that ask for them (SendTargets: RFC 7143, appendix C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcmu_runner.embedded.target import Target
    from tcmu_runner.iscsi.text_exchange import Answers, TargetsRequested

NAME_TYPES = ("iqn.", "naa.", "eui.")  # how every iSCSI name begins (4.2.7.3)


def targets(target: Target, asked: TargetsRequested) -> Answers:
    """All only in a discovery session, a name, or nothing for the session's own target. Any other value is no
    question for targets, and an empty list would look like the answer to one."""
    wanted, discovery = asked.wanted, asked.connection.session.discovery
    is_name = wanted == target.name or wanted.startswith(NAME_TYPES)
    if wanted and not is_name and (wanted != "All" or not discovery):
        return [("SendTargets", "Reject")]
    if wanted not in ("All", "", target.name) or (not wanted and discovery):
        return []
    reached = target.streams[asked.connection].local_host
    addresses = (portal.seen_from(reached) for portal in target.portals)
    return [("TargetName", target.name), *(("TargetAddress", address) for address in addresses)]
