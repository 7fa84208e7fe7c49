"""The commands of the CLI, one module a command or group."""
