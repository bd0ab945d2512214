"""The keys of RFC 7143, 13: which side may negotiate each, when, and what follows from two sides' values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto

from tcmu_runner.iscsi.text import (
    LARGEST,
    VALUE_MAX,
    NegotiationError,
    Offer,
    Pairs,
    Parameters,
    TextError,
    boolean,
    choose,
    number,
)

Answer = str | None  # None: a declaration, which has no answer
Rule = Callable[[Parameters, Offer, str], Answer]


def _header_digest(parameters: Parameters, offer: Offer, value: str) -> Answer:
    chosen = choose(value, offer.digests)
    parameters.header_digest = chosen == "CRC32C"
    return chosen


def _data_digest(parameters: Parameters, offer: Offer, value: str) -> Answer:
    chosen = choose(value, offer.digests)
    parameters.data_digest = chosen == "CRC32C"
    return chosen


def _max_connections(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.max_connections = min(number(value, 1, 65535), offer.max_connections)
    return str(parameters.max_connections)


def _initial_r2t(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.initial_r2t = boolean(value) or offer.initial_r2t
    return _yes_no(parameters.initial_r2t)


def _immediate_data(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.immediate_data = boolean(value) and offer.immediate_data
    return _yes_no(parameters.immediate_data)


def _segment(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.send_segment = number(value, 512, LARGEST)
    return None


def _max_burst(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.max_burst = min(number(value, 512, LARGEST), offer.max_burst)
    return str(parameters.max_burst)


def _first_burst(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.first_burst = min(number(value, 512, LARGEST), offer.first_burst)
    return str(parameters.first_burst)


def _time_to_wait(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.time_to_wait = number(value, 0, 3600)  # the larger one, and ours is 0
    return str(parameters.time_to_wait)


def _time_to_retain(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 0, 3600)
    parameters.time_to_retain = 0  # error recovery level 0 retains nothing
    return "0"


def _max_outstanding_r2t(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 1, 65535)
    return str(parameters.max_outstanding_r2t)


def _always_yes(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    boolean(value)
    return "Yes"


def _recovery_level(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 0, 2)
    return "0"


def _task_reporting(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    return choose(value, ("RFC3720",))


def _protocol_level(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    return str(min(number(value, 0, 31), 1))  # RFC 7144, 7.1.1: 1 is RFC 7143 itself


def _alias(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.initiator_alias = value
    return None


def _architecture(_parameters: Parameters, _offer: Offer, _value: str) -> Answer:
    return None  # a declaration for people, which changes nothing here (13.26)


def _obsolete(_parameters: Parameters, _offer: Offer, _value: str) -> Answer:
    return "Reject"  # 13.25


class Stage(IntEnum):
    """Of a connection, as the stages of a login are numbered (11.12.3)."""

    SECURITY = 0
    OPERATIONAL = 1
    FULL_FEATURE = 3


class Use(Enum):
    """When a key may be negotiated (13)."""

    LEADING_ONLY = auto()  # LO: in the login of a session's first connection
    INITIAL_ONLY = auto()  # IO: in the login of each connection
    ALL = auto()  # in full feature phase, too


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a connection is. leading: the first one of its session. discovery: of a discovery session."""

    stage: Stage = Stage.OPERATIONAL
    leading: bool = True
    discovery: bool = False


FIRST_LOGIN = Moment()


@dataclass(frozen=True, slots=True)
class Key:
    """A row of 13. security: allowed in the security stage (12). normal: irrelevant in discovery sessions."""

    rule: Rule
    use: Use
    security: bool = False
    normal: bool = False

    def allowed(self, at: Moment) -> bool:
        if at.stage == Stage.FULL_FEATURE:
            return self.use is Use.ALL
        if at.stage == Stage.SECURITY and not self.security:
            return False
        return at.leading or self.use is not Use.LEADING_ONLY


LO, IO, ALL = Use
KEYS = {
    "HeaderDigest": Key(_header_digest, IO),
    "DataDigest": Key(_data_digest, IO),
    "MaxConnections": Key(_max_connections, LO, normal=True),
    "InitialR2T": Key(_initial_r2t, LO, normal=True),
    "ImmediateData": Key(_immediate_data, LO, normal=True),
    "MaxRecvDataSegmentLength": Key(_segment, ALL),
    "MaxBurstLength": Key(_max_burst, LO, normal=True),
    "FirstBurstLength": Key(_first_burst, LO, normal=True),
    "DefaultTime2Wait": Key(_time_to_wait, LO),
    "DefaultTime2Retain": Key(_time_to_retain, LO),
    "MaxOutstandingR2T": Key(_max_outstanding_r2t, LO, normal=True),
    "DataPDUInOrder": Key(_always_yes, LO, normal=True),
    "DataSequenceInOrder": Key(_always_yes, LO, normal=True),
    "ErrorRecoveryLevel": Key(_recovery_level, LO),
    "TaskReporting": Key(_task_reporting, LO, normal=True),
    "iSCSIProtocolLevel": Key(_protocol_level, LO, normal=True),
    "InitiatorAlias": Key(_alias, ALL, security=True),
    "X#NodeArchitecture": Key(_architecture, LO),
    "IFMarker": Key(_obsolete, IO),
    "OFMarker": Key(_obsolete, IO),
    "IFMarkInt": Key(_obsolete, IO),
    "OFMarkInt": Key(_obsolete, IO),
}
# Keys that login, authentication and SendTargets read where they belong, and those that only targets declare.
ELSEWHERE = {
    "InitiatorName", "TargetName", "SessionType", "AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N",
    "CHAP_R", "SendTargets", "TargetAlias", "TargetAddress", "TargetPortalGroupTag",
}  # fmt: skip
DECLARED = {"TargetAlias", "TargetPortalGroupTag", "MaxRecvDataSegmentLength"}  # by us, in each login
ANSWERS = {"Reject", "Irrelevant", "NotUnderstood"}  # 6.2: never a proposal


def _yes_no(value: bool) -> str:
    return "Yes" if value else "No"


def negotiate(
    parameters: Parameters, offer: Offer, pairs: Pairs, at: Moment = FIRST_LOGIN
) -> list[tuple[str, str]]:
    """Applies an initiator's offers; our answers, in its order. Unknown keys are NotUnderstood (6.2).

    Raises TextError where a proposal is none.
    """
    answers: dict[str, str] = {}
    for name, value in pairs.items():
        try:
            answer = _answer(parameters, offer, (name, value), at)
        except NegotiationError:
            answer = "Reject"
        if answer is not None:
            answers[name] = answer
    _bound_first_burst(parameters, answers)
    return [*answers.items()]


def _answer(parameters: Parameters, offer: Offer, pair: tuple[str, str], at: Moment) -> Answer:
    name, value = pair
    if value in ANSWERS and name in DECLARED:
        return None  # an answer to what we declared, which needs none
    key = KEYS.get(name)
    if key is None:
        return "Reject" if name in ELSEWHERE else "NotUnderstood"
    if value in ANSWERS:
        raise TextError(f"{name}={value} is an answer, and no proposal")
    if not key.allowed(at):
        return "Reject"  # the value stays what it is (6.2)
    if key.normal and at.discovery:
        return "Irrelevant"
    if any(len(item.encode()) > VALUE_MAX for item in value.split(",")):
        raise NegotiationError(name)
    return key.rule(parameters, offer, value)


def _bound_first_burst(parameters: Parameters, answers: dict[str, str]) -> None:
    """13.14: FirstBurstLength does not exceed MaxBurstLength, and the initiator is given what holds."""
    parameters.first_burst = min(parameters.first_burst, parameters.max_burst)
    if answers.get("FirstBurstLength", "").isdecimal():
        answers["FirstBurstLength"] = str(parameters.first_burst)


def note(said: Pairs, pairs: Pairs) -> None:
    """Adds the pairs to those of the same login or text sequence. Raises TextError for a key that comes twice
    (6.3, 6.4)."""
    for name in pairs:
        if name in said:
            raise TextError(f"{name} twice")
    said |= pairs


def of_connection(session: Parameters, own: Parameters) -> Parameters:
    """What holds on one connection: the session's parameters, and of its `own` login those that have the
    connection as scope (CO)."""
    return replace(
        session,
        header_digest=own.header_digest,
        data_digest=own.data_digest,
        send_segment=own.send_segment,
    )
