"""Floor 2: rankd.yaml, read and checked. See docs/workspace.md."""

from rankd.workspace.environment import Override, setting_values
from rankd.workspace.load import FILE_NAME, Workspace, json_schema, load_workspace
from rankd.workspace.settings import (
    AdmissionSettings,
    LogSettings,
    ReloadSettings,
    ServerSettings,
    Settings,
    TracingSettings,
)
from rankd.workspace.values import Address, parse_address

__all__ = [
    "FILE_NAME",
    "Address",
    "AdmissionSettings",
    "LogSettings",
    "Override",
    "ReloadSettings",
    "ServerSettings",
    "Settings",
    "TracingSettings",
    "Workspace",
    "json_schema",
    "load_workspace",
    "parse_address",
    "setting_values",
]
