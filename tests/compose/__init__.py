"""docker-compose.yaml without a container engine: it is read, and its services' commands are run as processes."""
