"""Real servers for tests and for scripts/cluster: each unprivileged, on a free port, with all it has in one folder. scripts/lib/server is their command line."""
