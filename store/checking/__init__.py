"""`evoloom store check`: run directories, live file and snapshot compared with each other.

Run directories are the truth. What they come to is derived again, run by run, in a scratch database
and compared with the live file's rows; journals are compared with the completions; references,
counts, content hashes and the snapshot are checked by themselves. Nothing is changed.
"""

from store.checking.checker import CheckReport, check
from store.checking.findings import Finding

__all__ = ["CheckReport", "Finding", "check"]
