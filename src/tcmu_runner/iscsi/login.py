"""The login phase of one connection, without I/O: requests in, responses out (RFC 7143, 7 and 11.12)."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from enum import IntEnum

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.chap import CHALLENGE_LENGTH, Chap, ChapError, Credentials
from tcmu_runner.iscsi.keys import Moment, Stage, negotiate, note
from tcmu_runner.iscsi.pdu import CONTINUE
from tcmu_runner.iscsi.requests import TRANSIT, Login
from tcmu_runner.iscsi.text import NegotiationError, Offer, Pairs, Parameters

SECURITY, OPERATIONAL, FULL_FEATURE = Stage
NAME_MAX = 223  # bytes: 4.2.7.2
SEGMENT_MAX = 8192  # bytes of text in one PDU of a login: the default of MaxRecvDataSegmentLength (13.12)
# What libiscsi says again in the operational stage, after CHAP.
REPEATABLE = ("InitiatorName", "TargetName", "SessionType", "InitiatorAlias")


class LoginStatus(IntEnum):
    """11.13.5: class and detail."""

    SUCCESS = 0x0000
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILURE = 0x0201
    FORBIDDEN = 0x0202
    TARGET_NOT_FOUND = 0x0203
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    CANNOT_INCLUDE_IN_SESSION = 0x0208
    SESSION_TYPE_NOT_SUPPORTED = 0x0209
    NO_SUCH_SESSION = 0x020A
    INVALID_REQUEST = 0x020B
    OUT_OF_RESOURCES = 0x0302


class LoginError(Exception):
    """The login ends here, with this status."""

    def __init__(self, status: LoginStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Policy:
    """Which logins are accepted. targets: the names there are. credentials: None when none are needed."""

    targets: Container[str]
    portal_group: int = 1
    credentials: Credentials | None = None
    alias: str = ""
    offer: Offer = field(default_factory=Offer)


@dataclass(frozen=True, slots=True)
class Reply:
    """One Login Response. flags: TRANSIT and the stages. text: its data segment."""

    flags: int
    text: bytes = b""
    status: LoginStatus = LoginStatus.SUCCESS
    reason: str = ""

    @property
    def complete(self) -> bool:
        """The connection enters full feature phase with this response."""
        return bool(self.flags & TRANSIT) and self.flags & 3 == FULL_FEATURE


class LoginPhase:
    """One connection's login. After a complete reply the attributes name initiator, target and parameters."""

    def __init__(self, policy: Policy, random: Callable[[int], bytes]) -> None:
        self._policy = policy
        self._random = random
        self._stage: int | None = None
        self._text = b""
        self._said: Pairs = {}
        self._chap: Chap | None = None
        self._authenticated = policy.credentials is None
        self._declared = False  # our segment length
        self._introduced = False
        self._identity: tuple[bytes, int, int, int] | None = None
        self._leading = True  # the first connection of a session
        self.parameters = Parameters()
        self.initiator = ""
        self.target = ""
        self.discovery = False
        self.user = ""

    def receive(self, pdu: Login, data: bytes) -> Reply:
        """The answer to one Login Request. A reply with an error status is the last one."""
        stages = pdu.flags & 0x0F
        try:
            return self._receive(pdu, data)
        except LoginError as error:
            return Reply(stages, status=error.status, reason=str(error))
        except (text.TextError, ChapError) as error:
            failed = isinstance(error, ChapError)
            status = LoginStatus.AUTHENTICATION_FAILURE if failed else LoginStatus.INITIATOR_ERROR
            return Reply(stages, status=status, reason=str(error))

    def _receive(self, pdu: Login, data: bytes) -> Reply:
        self._check(pdu)
        self._text += data
        if len(data) > SEGMENT_MAX or len(self._text) > text.TEXT_MAX:
            raise LoginError(LoginStatus.INITIATOR_ERROR, "more text than any login needs")
        current, following = pdu.flags >> 2 & 3, pdu.flags & 3
        if pdu.flags & CONTINUE:
            if pdu.flags & TRANSIT:
                raise LoginError(LoginStatus.INITIATOR_ERROR, "T and C bits together")  # 11.12.2
            return Reply(current << 2)
        pairs, self._text = self._new(text.parse(self._text)), b""
        if self._stage is None:
            self._begin(pairs)
        self._stage = current
        answers = self._security(pairs) if current == SECURITY else self._operational(pairs)
        flags = current << 2
        if pdu.flags & TRANSIT and self._authenticated:
            flags |= TRANSIT | following
            self._stage = following
        answer = text.render(answers)
        if len(answer) > SEGMENT_MAX:
            raise LoginError(LoginStatus.INITIATOR_ERROR, "more keys than any login needs")
        return Reply(flags, answer)

    def _new(self, pairs: Pairs) -> Pairs:
        """The pairs without those that only repeat the names. Raises TextError for any other key that was
        in an earlier request of this login."""
        for key in REPEATABLE:
            if key in pairs and self._said.get(key) == pairs[key]:
                del pairs[key]
        note(self._said, pairs)
        return pairs

    def _check(self, pdu: Login) -> None:
        if pdu.version_min > 0:
            raise LoginError(LoginStatus.UNSUPPORTED_VERSION, f"version {pdu.version_min} at least")
        identity = (pdu.isid, pdu.tsih, pdu.cid, pdu.tag)
        if self._identity is None:
            self._identity, self._leading = identity, not pdu.tsih
        elif self._identity != identity:
            raise LoginError(LoginStatus.INITIATOR_ERROR, "ISID, TSIH, CID or task tag changed in a login")
        current, following = pdu.flags >> 2 & 3, pdu.flags & 3
        first_stages = (SECURITY, OPERATIONAL) if self._stage is None else (self._stage,)
        if current not in first_stages:
            raise LoginError(LoginStatus.INVALID_REQUEST, f"stage {current} after {self._stage}")
        if pdu.flags & TRANSIT and (following <= current or following not in (OPERATIONAL, FULL_FEATURE)):
            raise LoginError(LoginStatus.INITIATOR_ERROR, f"transit from stage {current} to {following}")

    def _begin(self, pairs: Pairs) -> None:
        """The first request names initiator and target (7.1.2)."""
        self.initiator = self._name(pairs, "InitiatorName")
        session_type = pairs.pop("SessionType", "Normal")
        if session_type not in ("Normal", "Discovery"):
            raise LoginError(LoginStatus.SESSION_TYPE_NOT_SUPPORTED, f"SessionType {session_type[:40]!r}")
        self.discovery = session_type == "Discovery"
        if not self.discovery:
            self.target = self._name(pairs, "TargetName")
            if self.target not in self._policy.targets:
                raise LoginError(LoginStatus.TARGET_NOT_FOUND, f"no target {self.target!r}")
        else:
            pairs.pop("TargetName", None)

    def _name(self, pairs: Pairs, key: str) -> str:
        name = pairs.pop(key, "")
        if not name:
            raise LoginError(LoginStatus.MISSING_PARAMETER, f"no {key}")
        if len(name.encode()) > NAME_MAX or not name.isprintable():
            raise LoginError(LoginStatus.INITIATOR_ERROR, f"{key} is no iSCSI name")
        return name

    def _security(self, pairs: Pairs) -> list[tuple[str, str]]:
        answers = self._introduction()
        method = pairs.pop("AuthMethod", None)
        if method is not None:
            answers.append(("AuthMethod", self._method(method)))
        algorithms = pairs.pop("CHAP_A", None)
        if algorithms is not None:
            if self._chap is None:
                raise LoginError(LoginStatus.INITIATOR_ERROR, "CHAP_A without AuthMethod=CHAP")
            answers += self._chap.offer(algorithms)
        if "CHAP_N" in pairs:
            answers += self._verify(pairs)
        return answers + self._negotiate(pairs, SECURITY)

    def _method(self, offered: str) -> str:
        """The choice from the initiator's list: CHAP where credentials are demanded, None elsewhere."""
        credentials = self._policy.credentials
        try:
            method = text.choose(offered, ("None",) if credentials is None else ("CHAP",))
        except NegotiationError:
            wanted = "no authentication" if credentials is None else "CHAP"
            raise LoginError(
                LoginStatus.AUTHENTICATION_FAILURE, f"AuthMethod {offered[:40]!r}, wanted is {wanted}"
            ) from None
        if credentials is not None:
            self._chap = Chap(credentials, self._random(1)[0], self._random(CHALLENGE_LENGTH))
            self._authenticated = False
        return method

    def _verify(self, pairs: Pairs) -> list[tuple[str, str]]:
        chap, self._chap = self._chap, None  # a challenge is good for one answer
        if chap is None or not chap.offered or "CHAP_R" not in pairs:
            raise LoginError(LoginStatus.INITIATOR_ERROR, "CHAP_N before its time, or without CHAP_R")
        answers = chap.verify(pairs)
        for key in ("CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"):
            pairs.pop(key, None)
        self._authenticated = True
        self.user = chap.user
        return answers

    def _operational(self, pairs: Pairs) -> list[tuple[str, str]]:
        if not self._authenticated:
            raise LoginError(LoginStatus.AUTHENTICATION_FAILURE, "no authentication, wanted is CHAP")
        answers = self._introduction()
        answers += self._negotiate(pairs, OPERATIONAL)
        if not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(self.parameters.receive_segment)))
        return answers

    def _negotiate(self, pairs: Pairs, stage: Stage) -> list[tuple[str, str]]:
        at = Moment(stage, leading=self._leading, discovery=self.discovery)
        return negotiate(self.parameters, self._policy.offer, pairs, at)

    def _introduction(self) -> list[tuple[str, str]]:
        """What our first answer tells without being asked (13.9; 13.6)."""
        if self._introduced or self.discovery:
            return []
        self._introduced = True
        answers = [("TargetPortalGroupTag", str(self._policy.portal_group))]
        return answers + ([("TargetAlias", self._policy.alias)] if self._policy.alias else [])
