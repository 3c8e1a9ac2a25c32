"""A run on the disk: its folder, its log, its checkpoint, and reading them back."""

from bioplaus.record.disk import Disk
from bioplaus.record.folder import RunFolder
from bioplaus.record.layout import Column
from bioplaus.record.reader import Run, describe, open_run
from bioplaus.record.rows import Log

__all__ = ["Column", "Disk", "Log", "Run", "RunFolder", "describe", "open_run"]
