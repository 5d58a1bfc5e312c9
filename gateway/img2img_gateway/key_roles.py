"""What API keys are for."""

from enum import StrEnum


class Role(StrEnum):
    """Each may do what those before it may."""

    SUBMIT = "submit"  # submit jobs, and see and change those of its tenant
    OPERATE = "operate"  # tell workers what to do, push models, see what all tenants store and did
    ADMIN = "admin"  # create and revoke keys

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what `other` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)
