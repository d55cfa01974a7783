"""The Kubernetes API: HTTP/1.1 requests of agents, decided on what they would do, answered by the API server."""
