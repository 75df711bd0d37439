"""The migrations, one module each; their order is in `down_revision`."""
