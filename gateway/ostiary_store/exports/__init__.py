"""The record as others take it: JSON lines, OCSF and OpenTelemetry logs, sent from the feed of a store."""
