"""What people are shown of builds: progress, tables, reasons, pictures. It reads reports and runs nothing."""

from __future__ import annotations
