"""The API server: kinds, requests, watches. Nothing of Ostiary's meaning is in here but the kinds."""
