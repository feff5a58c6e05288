"""Numbers of DNS types, classes and response codes into their names (IANA, DNS parameters)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

A: Final = 1
CNAME: Final = 5
AAAA: Final = 28
OPT: Final = 41
IN: Final = 1
QUERY: Final = 0  # the opcode of every ordinary lookup

_CLASSES: Final[Mapping[int, str]] = MappingProxyType({1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"})
_RCODES: Final[Mapping[int, str]] = MappingProxyType(
    {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET"}
    | {8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI"}
    | {16: "BADVERS", 17: "BADKEY", 18: "BADTIME", 19: "BADMODE", 20: "BADNAME", 21: "BADALG", 22: "BADTRUNC"}
    | {23: "BADCOOKIE"}
)
_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {A: "A", 2: "NS", CNAME: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB"}
    | {24: "SIG", 25: "KEY", AAAA: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME"}
    | {OPT: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY"}
    | {49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY"}
    | {61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 108: "EUI48", 109: "EUI64"}
    | {249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA", 260: "AMTRELAY"}
)


def type_name(number: int) -> str:
    """The name of a record type; TYPE1234 (RFC 3597) for one without a name here."""
    return _TYPES.get(number) or f"TYPE{number}"


def class_name(number: int) -> str:
    """The name of a class; CLASS1234 (RFC 3597) for one without a name here."""
    return _CLASSES.get(number) or f"CLASS{number}"


def rcode_name(number: int) -> str:
    """The name of a response code, extended ones included; RCODE1234 for one without a name here."""
    return _RCODES.get(number) or f"RCODE{number}"
