"""The API server: objects, store, server, client, manifests, errors."""
