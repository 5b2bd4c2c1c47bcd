"""What stands beside the value of a FHIR Observation: identifiers, sites, interpretations and status bits.

A reader here raises ``DecodeError`` for a member of a wrong type; none of them is worth a value.
"""

from dataclasses import dataclass, field

from ingest.adapters.fhir import codes
from ingest.adapters.fhir.codes import Coding, Node, member


@dataclass(slots=True)
class ObservationQuality:
    """What interpretations and status bits say of a value.

    ``bits`` are words of the measurement status, ``absent`` those of them that leave no value to use, ``flags`` what
    they mean; ``sides`` is the flag of a value out of range.
    """

    flags: int = 0
    sides: int = 0
    words: list[str] = field(default_factory=list)
    bits: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def identifiers(resource: Node, prefix: str) -> list[tuple[str, str]]:
    """System and value of each identifier that has one."""
    return codes.pairs(resource, "identifier", "value", prefix)


def is_test(resource: Node, prefix: str) -> bool:
    meta = member(resource, "meta", dict, prefix)
    if meta is None or "security" not in meta:
        return False
    return any(item.get("code") == "HTEST" for item in codes.objects(meta, "security", f"{prefix}meta."))


def quality(node: Node, prefix: str, status_code: str) -> ObservationQuality:
    """Known codes of a node's interpretations: ``H``, ``<``, bits of the measurement status."""
    found = ObservationQuality()
    if "interpretation" in node:
        for number, concept in enumerate(codes.objects(node, "interpretation", prefix)):
            for coding in codes.codings_of(concept, f"{prefix}interpretation[{number}]."):
                if coding[1] in codes.INTERPRETATIONS:
                    found.words.append(coding[1])
                    found.sides |= codes.SIDES.get(coding[1], 0)
                note_bit(coding, True, found, status_code)
    return found


def note_bit(coding: Coding, is_set: bool, quality: ObservationQuality, status_code: str) -> bool:
    """Take a coding for a bit of the measurement status; False when it is none."""
    code, _, number = coding[1].rpartition(".")
    bit = codes.STATUS_BITS.get(number)
    if bit is None or code != status_code:
        return False
    if not is_set:
        return True
    quality.bits.append(bit.word)
    quality.flags |= bit.flags
    if bit.is_absent:
        quality.absent.append(bit.word)
    return True


def coded(resource: Node, name: str, key: str, prefix: str) -> dict[str, str]:
    """A member of public codes as context."""
    code = codes.safe(codes.codings(resource, name, prefix)) if name in resource else None
    return {} if code is None else {key: code}
