"""HTTP routes, one noun a file; thin: read, call a service, answer."""
