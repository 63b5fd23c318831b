"""The service over HTTP: a thin skin around `PolicyService`."""
