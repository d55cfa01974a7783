"""The record: every session, request, decision and response, chained and signed."""
