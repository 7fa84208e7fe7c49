"""`evoloom up`: Prefect's server, workers, the teacher and the API under one supervisor.

Own code, and no process supervisor from PyPI: honcho ends everything when one process ends; supervisor
and circus restart, but know no order by health, tell no hanging process from a living one, and what they
have started outlives them when they are killed. Here a service is the kernel's to end with its
supervisor, runs are to go on, and both are what most of this code is about. It does not import Prefect,
but asks it over HTTP (`flows.up.prefect_api`).
"""
