"""The roles of API keys."""

from enum import StrEnum


class Role(StrEnum):
    """A role, which includes the rights of those before it."""

    SUBMIT = "submit"  # submit jobs, and see and change those of its tenant
    OPERATE = "operate"  # tell workers what to do, push models, see what all tenants store and did
    ADMIN = "admin"  # create and revoke keys

    def includes(self, other: "Role") -> bool:
        """Whether this role has all rights of `other`."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)
