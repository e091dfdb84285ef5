"""Floor 2: rankd.yaml, read and checked. See docs/workspace.md."""

from rankd.workspace.environment import Override, setting_values
from rankd.workspace.load import FILE_NAME, Workspace, json_schema, load_workspace
from rankd.workspace.settings import (
    AdmissionSettings,
    LogSettings,
    RedisSettings,
    ReloadSettings,
    ServerSettings,
    Settings,
    SignalsSettings,
    TracingSettings,
)
from rankd.workspace.values import Address, parse_address

__all__ = [
    "FILE_NAME",
    "Address",
    "AdmissionSettings",
    "LogSettings",
    "Override",
    "RedisSettings",
    "ReloadSettings",
    "ServerSettings",
    "Settings",
    "SignalsSettings",
    "TracingSettings",
    "Workspace",
    "json_schema",
    "load_workspace",
    "parse_address",
    "setting_values",
]
