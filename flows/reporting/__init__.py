"""The report of a run as one HTML page, and its pictures: from frames of the store to figures."""
