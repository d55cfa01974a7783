"""The data plane: protocols under policy, identity, credentials, masking and the record."""
