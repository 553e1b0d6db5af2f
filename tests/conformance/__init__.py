"""Kubernetes' own end-to-end cases for Services, on a lab: ``./lab conformance``. See README.md."""
