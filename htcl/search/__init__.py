"""The similarity index of a catalog, and questions to the published one."""
