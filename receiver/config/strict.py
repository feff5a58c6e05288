"""The base of every section: unknown keys and wrong types are errors, and nothing changes once it is read."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A section of the configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
