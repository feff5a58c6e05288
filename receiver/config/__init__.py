"""The configuration: its schema and defaults in one place, read from YAML of a collector's shape. Only here is YAML parsed."""

from receiver.config.errors import ConfigError
from receiver.config.load import default, load
from receiver.config.model import Config
from receiver.config.show import dump, full_yaml, json_schema

__all__ = ["Config", "ConfigError", "default", "dump", "full_yaml", "json_schema", "load"]
