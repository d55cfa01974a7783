"""How long the audit store keeps what a Connection's agents did."""

from __future__ import annotations

from pydantic import Field

from ostiary_api.meta import Model, Validation
from ostiary_api.units import Age, age_rule


class Retention(Model):
    """How long the audit store keeps what agents did here, counted from the end of each session."""

    record: Age | None = Field(
        default=None, description="Sessions with all they have: 90d, 12h or 30m. Without it as the store is set up."
    )
    responses: Age | None = Field(
        default=None,
        description="Long responses (those that do not lie in the request's own record), not longer than the record. "
        "Without it as the store is set up.",
    )

    validations = (
        Validation(
            f"!has(self.record) || !has(self.responses) || {age_rule('self.responses')} <= {age_rule('self.record')}",
            "responses must not be kept longer than the record that they belong to",
            lambda self: self.record is None or self.responses is None or self.responses <= self.record,
        ),
    )

    @property
    def seconds(self) -> dict[str, float]:
        """As the record of a session has it: what is set."""
        told = {"record": self.record, "responses": self.responses}
        return {name: age for name, age in told.items() if age is not None}
