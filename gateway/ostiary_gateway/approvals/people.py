"""Who a person at the admin socket is, and which approval groups they may answer for."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this machine, as the kernel and the user database tell. `groups` are of the operating system."""

    uid: int
    name: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """In what capacity a person may answer a question. `operator`: by right of owning the gateway."""

    acting: str
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who may answer. `members`: of each approval group, users by name and groups of the system as `%name`.

    Empty: the user that the gateway runs as, and root, may answer for any group. Both can read and change whatever
    the gateway has, so nothing is lost; they count as one person together. With any member named, only members may
    answer, root and the gateway's own user too.
    """

    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owner: int = field(default_factory=os.getuid)

    def standing(self, person: Person, groups: Iterable[str]) -> Standing | None:
        """In what capacity the person may answer for one of these groups; None if in none."""
        wanted = tuple(groups)
        if self.members:
            for group in wanted:
                if (how := self._member(person, group)) is not None:
                    return Standing(f"member of {group}{how}")
            return None
        if person.uid in (self.owner, 0):
            what = "root" if person.uid == 0 else "the gateway's own user"
            return Standing(f"{what}, for {wanted[0] if len(wanted) == 1 else ' or '.join(wanted)}", operator=True)
        return None

    def knows(self, person: Person) -> bool:
        """True if the person may answer for any group at all, and so may read what is asked."""
        return self.standing(person, self.members or ("any group",)) is not None

    def _member(self, person: Person, group: str) -> str | None:
        members = self.members.get(group, frozenset())
        if person.name in members:
            return ""
        through = sorted(name for name in person.groups if f"%{name}" in members)
        return f" by the system's group {through[0]}" if through else None


class ApproversError(ValueError):
    """The option cannot be understood; the message says why."""


def parse_approvers(options: Iterable[str]) -> dict[str, frozenset[str]]:
    """`GROUP=USER,%OSGROUP`, any number of times. Raises ApproversError."""
    found: dict[str, frozenset[str]] = {}
    for option in options:
        group, equals, names = option.partition("=")
        members = {name.strip() for name in names.split(",")}
        if not equals or not group.strip() or not all(name.strip("%") for name in members):
            raise ApproversError(f"{option!r} is not GROUP=USER,%OSGROUP, like dba=alice,%dba")
        found[group.strip()] = found.get(group.strip(), frozenset()) | members
    return found


def person_of(uid: int) -> Person:
    """The user with this id. A user that the database does not know has its number as name, and no groups."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(uid, f"uid:{uid}")
    names = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Person(uid, entry.pw_name, frozenset(names))
