"""Messages and stubs generated from protos/rankd/v1 at build time."""
