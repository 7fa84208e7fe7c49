"""Reading instruction data that others made: containers, formats, grouping into instructions."""

from pipeline.importing.containers import open_rows
from pipeline.importing.detecting import detect_format
from pipeline.importing.formats import FORMATS, Format, read_task
from pipeline.importing.grouping import Counts, Grouper
from pipeline.importing.records import BadRow, ImportedInstance, ImportedTask, SourceRow

__all__ = [
    "FORMATS",
    "BadRow",
    "Counts",
    "Format",
    "Grouper",
    "ImportedInstance",
    "ImportedTask",
    "SourceRow",
    "detect_format",
    "open_rows",
    "read_task",
]
