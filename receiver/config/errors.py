"""What is wrong with a configuration: every error at once, each with its path."""


class ConfigError(ValueError):
    """`errors` holds a line each: `exporters::otlp_grpc::endpoint: message`."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors
