"""The resources of ostiary.dev/v1alpha1 as pydantic models, and the schemas generated from them."""
