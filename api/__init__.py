"""The REST service and its dashboard live here."""
