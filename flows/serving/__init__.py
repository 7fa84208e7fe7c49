"""What the REST service does, apart from HTTP: the pool of seed tasks, runs, datasets, downloads."""
