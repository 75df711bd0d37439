"""The fleet's server: identity, routes, services, tasks."""
