"""Define the identity of a database, in which a restored copy differs from its original."""

from typing import Final

from pydantic import Field

from producer.schemas import ContractModel

REGISTER_FIELD: Final = "identity"
"""The field of the Redis hash `Keys.database` in which workers register their database."""


class DatabaseIdentity(ContractModel):
    """The identity of a database.

    `id` is random and stored in the database, so that a copy has the same one. `cluster` and
    `number` depend on where the database is, so that a copy differs in at least one of them.
    """

    id: str = Field(description="The random id that the database got when it was migrated.")
    cluster: str | None = Field(
        default=None,
        description="The system identifier of the PostgreSQL cluster, if the role may read it.",
    )
    number: int = Field(
        description="The OID of the PostgreSQL database, or the inode of the SQLite file."
    )
    place: str = Field(description="The host and name, or the file, without user and password.")

    def is_same(self, other: "DatabaseIdentity") -> bool:
        """Return whether both are the same database.

        If either cluster is unknown, clusters are not compared.
        """
        same_cluster = None in (self.cluster, other.cluster) or self.cluster == other.cluster
        return self.id == other.id and self.number == other.number and same_cluster

    def __str__(self) -> str:
        """Return the database's place, with what distinguishes it from others in this place."""
        return f"{self.place} (identity {self.id[:8]}, number {self.number})"
